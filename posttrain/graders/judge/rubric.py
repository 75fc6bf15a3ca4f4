"""Pointwise grades: each criterion by itself, yes or no, and the score is the share that holds.

A judge answers one plain question better than it hits one of ten steps on a scale, and each part of the score can be looked at.
The score is the mean probability, the verdict counts criteria.
A criterion that no quorum answered leaves the whole grade without a score.
"""

from __future__ import annotations

import asyncio
from statistics import fmean, pstdev

from posttrain.core.errors import Unanswered, UserError
from posttrain.core.types import Grade, Task
from posttrain.graders.judge.beforehand import is_empty, shown_answer
from posttrain.graders.judge.panel import Panel, answered, together
from posttrain.graders.judge.prompts import as_text, rubric_messages
from posttrain.graders.judge.verdict import Unreadable

OPTIONS = ("Yes", "No")
NOT_SHOWN = "nothing to judge: the minimum, without asking"


async def grade(panel: Panel, task: Task, text: str, *, reverse: bool = False) -> Grade:
    """One answer by every criterion. `unscored` where a judge gave no answer, `error` where its reply cannot be read."""
    config, answer = panel.config, shown_answer(text)
    if is_empty(answer, as_text(task.messages[-1:])):
        return Grade(0.0, False, explanation=NOT_SHOWN)
    reference = task.answer if config.show_reference else None
    questions = [
        rubric_messages(task.messages, answer, criterion, reference=reference, reasoning=config.reasoning, reverse=reverse)
        for criterion in config.criteria
    ]
    try:
        votes = [answered(config, found) for found in await asyncio.gather(*(panel.ask(each, OPTIONS) for each in questions))]
    except (Unreadable, UserError) as error:
        return Grade.error(str(error))
    except Unanswered as error:
        return Grade.unscored(f"the judge gave no answer: {error.message}")
    values = [together(config, said) for said in votes]
    met = fmean(value >= 0.5 for value in values)
    parts: dict[str, float | None] = (
        {f"criterion_{number}": value for number, value in enumerate(values, 1)} if len(values) > 1 else {}
    )
    if len(panel.models) > 1:
        parts["disagreement"] = fmean(pstdev(said) for said in votes)
    failed = [criterion for criterion, value in zip(config.criteria, values, strict=True) if value < 0.5]
    return Grade(
        fmean(values), met >= config.pass_at, explanation=f"does not hold: {'; '.join(failed)}" if failed else "", parts=parts
    )
