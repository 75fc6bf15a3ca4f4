"""GRPO and its family (algorithms/family.py): what a rollout is worth is how it did beside the others of its group.

One loop serves them all. Letters: T tasks, G rollouts of a task.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

import torch

from posttrain.algorithms.advantages import ADVANTAGES
from posttrain.algorithms.family import FAMILY, Method
from posttrain.core.config import GrpoConfig
from posttrain.core.protocols import Generator
from posttrain.core.types import Group
from posttrain.training.driver import Step
from posttrain.training.policy import Policy
from posttrain.training.rl_step import RlRow, add_scores, update
from posttrain.training.rounds import Collect, following, is_scored, reward, rounds, scored_rows


def method_of(config: GrpoConfig) -> Method:
    """The algorithm with the stage's own ranges put in."""
    method = FAMILY[config.algorithm]
    changes = {"clip_low": config.clip_low, "clip_high": config.clip_high, "dynamic": config.dynamic_sampling}
    return replace(method, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]


def grpo(
    policy: Policy, generator: Generator, collect: Collect, config: GrpoConfig, *, seed: int, start: int, state: Mapping[str, float]
) -> AsyncIterator[Step]:
    """Yields a Step per round of sampling (see training/rounds.py)."""
    method = method_of(config)

    def follow(groups: Sequence[Group], coefficient: float, index: int) -> tuple[list[RlRow], dict[str, float]]:
        rows = training_rows(groups, config, method)
        scores = add_scores(policy, rows, config, method, coefficient)
        return rows, {**scores, **update(policy, rows, config, method, coefficient, seed=seed, index=index)}

    return rounds(policy, generator, collect, following(follow, config), config, start=start, state=state)


def training_rows(groups: Sequence[Group], config: GrpoConfig, method: Method) -> list[RlRow]:
    """Every row of every scored rollout with its advantage."""
    width = max(len(group.rollouts) for group in groups)
    rewards = torch.zeros(len(groups), width, dtype=torch.float64)
    scored = torch.zeros(len(groups), width, dtype=torch.bool)
    for t, group in enumerate(groups):
        for g, rollout in enumerate(group.rollouts):
            if is_scored(rollout):
                rewards[t, g], scored[t, g] = reward(rollout, config), True
    advantages = ADVANTAGES[method.advantage](rewards, scored)[scored].tolist()
    rows = [scored_rows(t, rollout, config) for t, group in enumerate(groups) for rollout in group.rollouts if is_scored(rollout)]
    for advantage, of_rollout in zip(advantages, rows, strict=True):
        for row in of_rollout:
            row.advantages = [advantage] * row.trained
    return [row for of_rollout in rows for row in of_rollout]
