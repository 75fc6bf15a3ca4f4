"""Comparisons: which of two answers is better, asked in both orders.

Judges favour a place: GPT-4 kept its verdict in 65 % of swapped pairs (arXiv:2306.05685). So a win counts only where both orders
name it, a loss likewise, and all else is a tie. In a group each answer meets its next `opponents` neighbours in a ring and the
score is its mean result; every comparison counts for both sides. A group's score is relative and says nothing about right or wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import fmean, pstdev

from posttrain.core.errors import Unanswered, UserError
from posttrain.core.types import Grade, Task
from posttrain.graders.judge.beforehand import is_empty, shown_answer
from posttrain.graders.judge.panel import Panel, answered, together
from posttrain.graders.judge.prompts import as_text, pair_messages
from posttrain.graders.judge.verdict import Unreadable

OPTIONS = ("A", "B")
WIN, TIE, LOSS = 1.0, 0.5, 0.0


async def compare(panel: Panel, task: Task, ours: str, theirs: str) -> list[float | Exception]:
    """Each judge's result for `ours`: win, tie or loss. An answer without an answer loses unseen."""
    question = as_text(task.messages[-1:])
    empty = is_empty(ours, question), is_empty(theirs, question)
    if any(empty):
        return [TIE if all(empty) else LOSS if empty[0] else WIN] * len(panel.models)
    config = panel.config
    first, second = await asyncio.gather(
        panel.ask(pair_messages(task.messages, ours, theirs, config.question, reasoning=config.reasoning), OPTIONS),
        panel.ask(pair_messages(task.messages, theirs, ours, config.question, reasoning=config.reasoning), OPTIONS),
    )
    return [consistent(a, b) for a, b in zip(first, second, strict=True)]


def consistent(ours_first: float | Exception, ours_second: float | Exception) -> float | Exception:
    """Of the probabilities that the answer shown first is better, in both orders."""
    for each in (ours_first, ours_second):
        if isinstance(each, Exception):
            return each
    assert isinstance(ours_first, float) and isinstance(ours_second, float)
    if ours_first > 0.5 and ours_second < 0.5:
        return WIN
    return LOSS if ours_first < 0.5 and ours_second > 0.5 else TIE


async def grade(panel: Panel, task: Task, text: str) -> Grade:
    """One answer against the task's reference or baseline."""
    other = task.answer if panel.config.compare == "reference" else task.metadata.get("baseline")
    if not isinstance(other, str) or not other.strip():
        return Grade.error(f"task {task.id} has no {panel.config.compare} to compare with")
    try:
        said = answered(panel.config, await compare(panel, task, shown_answer(text), shown_answer(other)))
    except (Unreadable, Unanswered, UserError) as error:
        return without_verdict(error)
    score = together(panel.config, said)
    parts: dict[str, float | None] = {"disagreement": pstdev(said)} if len(said) > 1 else {}
    return Grade(score, score >= panel.config.pass_at, parts=parts)


async def grade_group(panel: Panel, task: Task, texts: Sequence[str]) -> list[Grade]:
    """All answers of a group against their neighbours. One whose comparisons all failed has no score."""
    answers = [shown_answer(text) for text in texts]
    meetings = ring(len(answers), panel.config.opponents)
    if not meetings:
        return [Grade.error("there is no other answer in the group to compare with") for _ in answers]
    outcomes = await asyncio.gather(*(compare(panel, task, answers[i], answers[j]) for i, j in meetings))
    results: list[list[float]] = [[] for _ in answers]
    failures: list[Exception | None] = [None] * len(answers)
    for (i, j), found in zip(meetings, outcomes, strict=True):
        try:
            score = together(panel.config, answered(panel.config, found))
        except (Unreadable, Unanswered, UserError) as error:
            failures[i] = failures[j] = error
            continue
        results[i].append(score)
        results[j].append(1 - score)
    return [
        Grade(fmean(own)) if own else without_verdict(failure or Unanswered("no comparison"))
        for own, failure in zip(results, failures, strict=True)
    ]


def ring(count: int, opponents: int) -> list[tuple[int, int]]:
    """Each pair once: every answer with the next ones around the ring."""
    pairs = {tuple(sorted((i, (i + step) % count))) for i in range(count) for step in range(1, opponents + 1)}
    return sorted((a, b) for a, b in pairs if a != b)


def without_verdict(error: Exception) -> Grade:
    if isinstance(error, Unreadable):
        return Grade.error(str(error))
    return Grade.unscored(f"the judge gave no answer: {getattr(error, 'message', error)}")
