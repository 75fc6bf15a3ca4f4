"""A judge asked as calibration needs it: each labelled answer as always, with places swapped, and once more."""

from __future__ import annotations

import asyncio
from statistics import fmean

from posttrain.core.types import Grade, Message, Task
from posttrain.graders.judge import pairs, rubric
from posttrain.graders.judge.panel import Panel
from posttrain.graders.judge.prompts import pair_messages


async def grade_of(panel: Panel, task: Task, answer: str, other: str | None) -> Grade:
    """By the rubric, or against another answer."""
    if other is None:
        return await rubric.grade(panel, task, answer)
    against = Task(task.id, task.messages, answer=other, metadata={"baseline": other})
    return await pairs.grade(panel, against, answer)


async def asked_thrice(
    panel: Panel, identity: str, prompt: tuple[Message, ...], answer: str, *, reference: str | None, other: str | None
) -> tuple[Grade, bool | None, Grade]:
    """The grade, whether the verdict is the same with options or answers swapped (None where one is missing), and the grade when
    asked again with another seed."""
    task = Task(identity, prompt, answer=reference)
    grade, again = await asyncio.gather(grade_of(panel, task, answer, other), grade_of(panel.again(), task, answer, other))
    if other is not None:
        return grade, await keeps_its_place(panel, task, answer, other), again
    swapped = await rubric.grade(panel, task, answer, reverse=True)
    stable = None if grade.passed is None or swapped.passed is None else grade.passed == swapped.passed
    return grade, stable, again


async def keeps_its_place(panel: Panel, task: Task, answer: str, other: str) -> bool | None:
    """Whether the panel's mean names the same answer in both orders."""
    config, sides = panel.config, []
    for first, second in ((answer, other), (other, answer)):
        messages = pair_messages(task.messages, first, second, config.question, reasoning=config.reasoning)
        said = [each for each in await panel.ask(messages, pairs.OPTIONS) if not isinstance(each, Exception)]
        if not said:
            return None
        sides.append(fmean(said))
    return (sides[0] > 0.5) == (sides[1] < 0.5)
