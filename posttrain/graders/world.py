"""The grade that an environment gave, as one part of the reward beside the stage's graders.

It weighs and gates as any grader does, and its verdict counts as one of correctness: it saw what became of the world. An episode
that got no grade from an environment that should give one is unscored, which is never a score of 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from posttrain.core.config import EnvironmentConfig
from posttrain.core.types import Grade, Rollout, Task
from posttrain.graders.combine import Composite, Part, combine, written_text


class WorldAndGraders:
    """The environment's grade and those of the graders as one; without graders, the environment's alone."""

    def __init__(self, config: EnvironmentConfig, graders: Composite | None) -> None:
        self.graders = graders
        self.part = Part("environment", config, no_text)

    @property
    def judges(self) -> Sequence[Part]:
        return () if self.graders is None else self.graders.judges

    async def __call__(self, task: Task, rollout: Rollout) -> Grade:
        if rollout.status == "failed":
            return Grade.unscored(f"the rollout failed: {rollout.failure or 'no reason given'}")
        given = rollout.grade or Grade.unscored("the environment gave no grade")
        if self.graders is None:
            return combine((self.part,), (given,))
        grades = await self.graders.grades(task, written_text(rollout), rollout.written)
        return combine((self.part, *self.graders.parts), (given, *grades))

    async def aclose(self) -> None:
        if self.graders is not None:
            await self.graders.aclose()


async def no_text(task: Task, text: str, written: int | None) -> Grade:
    """An environment has seen what became of the episode; a text alone tells it nothing."""
    return Grade.unscored("an environment's grade comes from the episode, not from a text")
