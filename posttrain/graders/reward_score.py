"""A reward model's score of an answer in its conversation; members of an ensemble become one number by a stated rule.

A policy finds the answers that a reward model overrates (arXiv:2210.10760). Where members disagree they are far from what
they were trained on, so `min` (worst case) and `mean_minus_std` (after arXiv:2310.02743, which takes off the variance; we
take the standard deviation, which has the unit of the reward) trust such answers less. All members can still err together,
as those of one body tend to. It calls nothing right or wrong: `passed` is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev

from posttrain.core.config import RewardModelGrader
from posttrain.core.errors import UserError
from posttrain.core.protocols import RewardScorer
from posttrain.core.types import Grade, Message, Task

COMBINE: dict[str, Callable[[Sequence[float], float], float]] = {
    "mean": lambda rewards, penalty: fmean(rewards),
    "min": lambda rewards, penalty: min(rewards),
    "mean_minus_std": lambda rewards, penalty: fmean(rewards) - penalty * pstdev(rewards),
}


def combined(config: RewardModelGrader, rewards: Sequence[float]) -> float:
    return COMBINE[config.combine](rewards, config.penalty)


async def grade(config: RewardModelGrader, scorer: RewardScorer, task: Task, text: str) -> Grade:
    """A conversation that the reward model cannot read gets an error, and so does a score that is no number; never a 0."""
    try:
        rewards = await scorer.rewards((*task.messages, Message("assistant", text)), normalise=config.normalise)
    except UserError as error:
        return Grade.error(f"the reward model could not score this: {error}")
    if not all(math.isfinite(reward) for reward in rewards):
        return Grade.error(f"the reward model's score is {list(rewards)}")
    parts: dict[str, float | None] = {"std": pstdev(rewards)} if len(rewards) > 1 else {}
    return Grade(combined(config, rewards), parts=parts)
