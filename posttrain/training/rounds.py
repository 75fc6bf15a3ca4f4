"""Rounds of reinforcement learning: collect, learn, hand the new weights to the sampler.

GRPO's family, PPO and online DPO share them and differ in how they learn from a round's groups. Each round proves three
things: enough samples have a score, the sampler wrote with the weights the trainer holds, and it took over the new ones
afterwards.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from posttrain.algorithms.kl import adapt
from posttrain.algorithms.rewards import overlong_penalty
from posttrain.core.config import PolicyGradientConfig, RolloutConfig
from posttrain.core.protocols import Generator
from posttrain.core.types import Group, Rollout
from posttrain.training.driver import BrokenStep, Step
from posttrain.training.policy import Policy
from posttrain.training.rl_step import RlRow


@dataclass(frozen=True)
class Collected:
    """Groups in task order, where the walk over the tasks has got to, and what collecting them cost."""

    groups: Sequence[Group]
    position: int
    metrics: Mapping[str, float]


Collect = Callable[[int, int], Awaitable[Collected]]
"""(step, position in the walk over the tasks) -> groups."""


@dataclass(frozen=True)
class Learnt:
    """What learning from a round came to. `state` is what the next round's learning starts from; `advantages` are kept with the
    rollouts, by task and sample; `shown` is drawn beside the bar."""

    metrics: Mapping[str, float]
    state: Mapping[str, float] = field(default_factory=dict)
    advantages: Mapping[tuple[str, int], float] = field(default_factory=dict)
    shown: Mapping[str, float] = field(default_factory=dict)


Learn = Callable[[Sequence[Group], Mapping[str, float], int], Learnt]
"""(groups, the state that the round before left, step) -> one or more optimizer steps, and what they came to."""
Follow = Callable[[Sequence[Group], float, int], tuple[list[RlRow], dict[str, float]]]
"""(groups, KL coefficient, step) -> the rows learnt from, with their advantages, and what learning came to."""


async def rounds(
    policy: Policy,
    generator: Generator,
    collect: Collect,
    learn: Learn,
    config: RolloutConfig,
    *,
    start: int,
    state: Mapping[str, float],
) -> AsyncIterator[Step]:
    """Yields a Step per round of sampling. Raises BrokenStep when sampler and trainer are apart, too little is scored, or a
    number is not finite."""
    position = int(state.get("position", 0))
    await generator.update(policy.version)
    for index in range(start, config.steps):
        began = time.perf_counter()
        collected = await collect(index, position)
        position = collected.position
        metrics = {**rollout_metrics(collected.groups), **collected.metrics}
        if config.samples_per_prompt == 1:
            metrics.pop("groups/zero_variance", None)  # a single sample has nothing to differ from
        require_scores(collected.groups, config.max_unscored, index, metrics)
        require_version(collected.groups, policy.version, index, metrics)
        learnt = learn(collected.groups, state, index)
        metrics |= learnt.metrics
        await generator.update(policy.version)
        require_fresh(policy, index, metrics)
        metrics["time/step"] = time.perf_counter() - began
        state = {"position": position, **learnt.state}
        shown = {"reward": metrics.get("reward/mean", 0.0), "passed": metrics.get("passed", 0.0)}
        shown |= learnt.shown or {"length": metrics["length/mean"]}
        yield Step(index, metrics, state, collected.groups, learnt.advantages, shown)


def following(follow: Follow, config: PolicyGradientConfig) -> Learn:
    """How the methods learn that follow the reward's gradient: with a KL whose coefficient may adapt from round to round."""

    def learn(groups: Sequence[Group], state: Mapping[str, float], index: int) -> Learnt:
        coefficient = float(state.get("kl/coefficient", config.kl.coefficient))
        rows, metrics = follow(groups, coefficient, index)
        if config.kl.target is not None and "kl/k1" in metrics:
            coefficient = adapt(coefficient, metrics["kl/k1"], config.kl.target)
        after = {"kl/coefficient": coefficient}
        return Learnt(metrics | after, after, {(row.task, row.sample): row.advantage for row in rows})

    return learn


def scored_rows(group: int, rollout: Rollout, config: RolloutConfig) -> list[RlRow]:
    """What is trained on of a scored rollout. Unscored and failed rollouts have no advantage and are left out."""
    earned, cut = reward(rollout, config), rollout.status == "truncated"
    return [RlRow(rollout.task.id, rollout.sample, group, row, earned, cut) for row in rollout.rows]


def is_scored(rollout: Rollout) -> bool:
    return rollout.status != "failed" and rollout.grade is not None and rollout.grade.score is not None


def reward(rollout: Rollout, config: RolloutConfig) -> float:
    assert rollout.grade is not None and rollout.grade.score is not None
    penalty = overlong_penalty(rollout.written, config.max_tokens, config.overlong_buffer) if config.overlong_buffer else 0.0
    return rollout.grade.score + penalty


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """What the samples say before any model looks at them again."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    graded = [rollout for rollout in rollouts if is_scored(rollout)]
    scores = torch.tensor([r.grade.score for r in graded if r.grade], dtype=torch.float64)
    written = torch.tensor([float(r.written) for r in rollouts if r.status != "failed"] or [0.0])
    metrics = {
        "length/mean": written.mean().item(),
        "length/max": written.max().item(),
        "length/truncated": share(r.status == "truncated" for r in rollouts),
        "rollouts/unscored": share(not is_scored(r) and r.status != "failed" for r in rollouts),
        "rollouts/failed": share(r.status == "failed" for r in rollouts),
        "groups/zero_variance": share(no_signal(group) for group in groups),
        "groups/kept": float(len(groups)),
        "tokens/generated": written.sum().item(),
    }
    if graded:
        metrics |= {"reward/mean": scores.mean().item(), "reward/std": scores.std(unbiased=False).item()}
        if judged := [r.grade.passed for r in graded if r.grade and r.grade.passed is not None]:  # a reward model judges none
            metrics["passed"] = share(judged)
        names = sorted({name for r in graded if r.grade for name in r.grade.parts})
        for name in names:
            values = [value for r in graded if r.grade and (value := r.grade.parts.get(name)) is not None]
            if values:
                metrics[f"reward/{name}"] = sum(values) / len(values)
    return metrics


def no_signal(group: Group) -> bool:
    """True if all scored rewards of the group are equal, or fewer than two are scored."""
    return len({r.grade.score for r in group.rollouts if is_scored(r) and r.grade}) < 2


def share(flags: object) -> float:
    values = [bool(flag) for flag in flags]  # type: ignore[attr-defined]
    return sum(values) / len(values) if values else 0.0


def require_scores(groups: Sequence[Group], limit: float, index: int, metrics: Mapping[str, float]) -> None:
    """No answer is not a zero: too many missing ones end the run instead of training on what is left."""
    rollouts = [r for group in groups for r in group.rollouts]
    missing = [r for r in rollouts if not is_scored(r)]
    if rollouts and len(missing) / len(rollouts) <= limit:
        return
    reasons = sorted({(r.failure or (r.grade.explanation if r.grade else "not graded")).rstrip(".") for r in missing})
    raise BrokenStep(
        index,
        metrics,
        reason=f"{len(missing)} of {len(rollouts)} samples have no score (limit {limit:.0%}): {'; '.join(reasons[:3])}",
        fix="Mend the grader or the tasks, or raise max_unscored, then run again.",
    )


def require_fresh(policy: Policy, index: int, metrics: Mapping[str, float]) -> None:
    """The sampler's folded weights are the trainer's, bit for bit, after each update: a lost one is found before it is used."""
    if stale := policy.view.stale():
        reason = f"the sampler did not take over the new weights of {len(stale)} layers, such as {stale[0]}"
        raise BrokenStep(index, metrics, reason=reason, fix="This is a fault of the generator; please report it.")


def require_version(groups: Sequence[Group], version: int, index: int, metrics: Mapping[str, float]) -> None:
    """Sampler and trainer hold the same weights, by number."""
    written = {v for g in groups for r in g.rollouts for row in r.rows for v, m in zip(row.versions, row.mask, strict=True) if m}
    if written - {version}:
        reason = f"the sampler wrote with weights {sorted(written)}, the trainer holds {version}: an update was lost"
        raise BrokenStep(index, metrics, reason=reason, fix="This is a fault of the generator; please report it.")
