"""Several graders, one grade: a weighted sum, gates, and the parts kept apart so that a hacked one can be seen.

score = Σ weight · part, over the graders that are not gates, times 0 if a gate is not passed. Parts keep their own raw
score. No verdict from a grader that counts is no verdict on the whole: the status is error (or unscored), never a score
of 0. A grader of weight 0 only watches: its failure leaves its part None and the score alone.

`passed` asks the graders of correctness (math, lookup, refusal, instruction, functions and environments that gave a verdict) and
the gates; where there is no correctness grader, all graders that gave a verdict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from posttrain.core.config import EnvironmentConfig, EpisodeConfig, GraderConfig, JudgeGrader
from posttrain.core.types import Grade, Rollout, Task

LARGEST = 3.0e38  # scores end up in 32-bit floats
VERIFIERS = ("math", "lookup", "refusal", "instruction", "code")  # every verdict of theirs is about what was asked
CORRECTNESS = (*VERIFIERS, "function")

Judge = Callable[[Task, str, int | None], Awaitable[Grade]]
"""A prepared grader: task, text, tokens written (None for plain text) -> Grade."""


GroupJudge = Callable[[Task, Sequence[str]], Awaitable[Sequence[Grade]]]
"""One that needs a task's answers together: task, their texts -> a grade each."""


class Closing(Protocol):
    """What a grader holds open: a pool of processes, of sandboxes."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Part:
    """One grader of the sum, ready to judge."""

    name: str
    config: GraderConfig | EnvironmentConfig
    judge: Judge
    pool: Closing | None = None
    group: GroupJudge | None = None

    @property
    def counts(self) -> bool:
        return self.config.gate or self.config.weight > 0


class Composite:
    """The graders of a stage as one. Call it with a task and a rollout; close it when the stage ends."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)

    async def __call__(self, task: Task, rollout: Rollout) -> Grade:
        if rollout.status == "failed":
            return Grade.unscored(f"the rollout failed: {rollout.failure or 'no reason given'}")
        return await self.text(task, written_text(rollout), rollout.written)

    async def text(self, task: Task, text: str, written: int | None = None) -> Grade:
        return combine(self.parts, await self.grades(task, text, written))

    async def grades(self, task: Task, text: str, written: int | None = None) -> list[Grade]:
        """Each part's own verdict, in the order of the parts."""
        return await asyncio.gather(*(part.judge(task, text, written) for part in self.parts))

    @property
    def judges(self) -> Sequence[Part]:
        """The parts that are language models' opinions."""
        return [part for part in self.parts if isinstance(part.config, JudgeGrader)]

    @property
    def by_group(self) -> bool:
        """Whether a task's answers must be given together, to `group`."""
        return any(part.group is not None for part in self.parts)

    async def group(self, task: Task, rollouts: Sequence[Rollout]) -> list[Grade]:
        """One grade a rollout, in order; none of them failed."""
        texts = [written_text(rollout) for rollout in rollouts]

        async def column(part: Part) -> Sequence[Grade]:
            if part.group is not None:
                return await part.group(task, texts)
            return await asyncio.gather(*(part.judge(task, text, r.written) for text, r in zip(texts, rollouts, strict=True)))

        columns = await asyncio.gather(*(column(part) for part in self.parts))
        return [combine(self.parts, list(row)) for row in zip(*columns, strict=True)]

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        for part in self.parts:
            if part.pool is not None:
                part.pool.close()


def written_text(rollout: Rollout) -> str:
    """What the model wrote in its last turn, the reasoning put back where the template keeps it apart."""
    last = next((message for message in reversed(rollout.messages) if message.role == "assistant"), None)
    if last is None:
        return ""
    return f"<think>{last.thinking}</think>{last.content}" if last.thinking else last.content


def combine(parts: Sequence[Part], grades: Sequence[Grade]) -> Grade:
    scores = {part.name: grade.score for part, grade in zip(parts, grades, strict=True)}
    scores |= {
        f"{part.name}/{name}": value for part, grade in zip(parts, grades, strict=True) for name, value in grade.parts.items()
    }
    answer = next(
        (
            g.answer
            for p, g in zip(parts, grades, strict=True)
            if (p.config.kind in CORRECTNESS or isinstance(p.config, EpisodeConfig)) and g.answer is not None
        ),
        None,
    )
    explanation = "; ".join(
        grade.explanation if len(parts) == 1 else f"{part.name}: {grade.explanation}"
        for part, grade in zip(parts, grades, strict=True)
        if grade.explanation
    )
    judged = [(part, as_gate(part, grade)) for part, grade in zip(parts, grades, strict=True)]
    for status in ("error", "unscored"):
        if any(part.counts and grade.status == status for part, grade in judged):
            why = explanation or "; ".join(grade.explanation for _, grade in judged if grade.status == status)
            return Grade(None, None, status, answer=answer, explanation=why, parts=scores)
    total = sum(part.config.weight * (grade.score or 0.0) for part, grade in judged if not part.config.gate and part.config.weight)
    if any(part.config.gate and not grade.passed for part, grade in judged):
        total = 0.0
    total = max(-LARGEST, min(LARGEST, total))
    return Grade(total, all_passed(judged), answer=answer, explanation=explanation, parts=scores)


def as_gate(part: Part, grade: Grade) -> Grade:
    """A gate must say passed or not; a bare float cannot open or shut it."""
    if part.config.gate and grade.status == "scored" and grade.passed is None:
        return Grade.error(f"{part.name} is a gate but gave a score without a verdict; return a bool or a Grade with passed")
    return grade


def all_passed(judged: Sequence[tuple[Part, Grade]]) -> bool | None:
    correctness = [
        grade.passed
        for part, grade in judged
        if part.config.kind in VERIFIERS
        or ((part.config.kind == "function" or isinstance(part.config, EpisodeConfig)) and grade.passed is not None)
    ]
    gates = [grade.passed for part, grade in judged if part.config.gate]
    verdicts = correctness + gates if correctness else [grade.passed for _, grade in judged if grade.passed is not None]
    if any(verdict is False for verdict in verdicts):
        return False
    return None if not verdicts or None in verdicts else True


def names(configs: Sequence[GraderConfig]) -> list[str]:
    """A name for each part: its kind, numbered from the second of a kind on."""
    seen: dict[str, int] = {}
    found = []
    for config in configs:
        seen[config.kind] = seen.get(config.kind, 0) + 1
        found.append(config.kind if seen[config.kind] == 1 else f"{config.kind}_{seen[config.kind]}")
    return found
