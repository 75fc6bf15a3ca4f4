"""One round's update: score what has to be scored, then optimizer steps over minibatches. What GRPO's family and PPO share.

Every weight is fixed over the minibatch before the model runs, so micro-batches only decide memory.
"""

from __future__ import annotations

import math
import random
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor

from posttrain.algorithms.family import Method
from posttrain.algorithms.kl import KL_LOSSES, k1, k3
from posttrain.algorithms.policy import POLICY_LOSSES, truncated_importance
from posttrain.algorithms.weights import REDUCTIONS
from posttrain.core.config import PolicyGradientConfig
from posttrain.core.faults import fault
from posttrain.core.seeds import derive
from posttrain.core.types import TokenRow, floats
from posttrain.models.packing import Batch, micro_batches, pack
from posttrain.training.driver import BrokenStep
from posttrain.training.optimizer import NonFinite
from posttrain.training.policy import Policy


@dataclass
class RlRow:
    """A row and what its rollout earned, with streams of one number per trained token, filled where the method needs them:
    `advantages`; `old` and `reference`, log-probabilities under the policy at the start of the round and under the stage's
    start; `values` at the start of the round and `returns`, which a critic is trained towards.

    `cut` says that the row ended at the length limit and not by itself.
    """

    task: str
    sample: int
    group: int
    row: TokenRow
    reward: float
    cut: bool = False
    advantages: list[float] = field(default_factory=list)
    old: array[float] = field(default_factory=lambda: floats(()))
    reference: array[float] = field(default_factory=lambda: floats(()))
    values: array[float] = field(default_factory=lambda: floats(()))
    returns: array[float] = field(default_factory=lambda: floats(()))

    @property
    def advantage(self) -> float:
        """Mean over its tokens, which without a critic all have the same."""
        return fmean(self.advantages) if self.advantages else 0.0

    @property
    def trained(self) -> int:
        return sum(self.row.mask)

    @property
    def sampled(self) -> array[float]:
        return floats(p for p, m in zip(self.row.logprobs, self.row.mask, strict=True) if m)


class Means:
    """Running means over trained tokens, by name."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.largest: dict[str, float] = {}
        self.count = 0

    def add(self, count: int, **values_L: Tensor) -> None:
        self.count += count
        for name, value in values_L.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach().double().sum())

    def result(self, names: dict[str, str]) -> dict[str, float]:
        return {names[name]: total / max(1, self.count) for name, total in self.sums.items()}


def packed(
    rows: Sequence[RlRow], budget: int, device: torch.device, streams: Sequence[str] = (), weights: Sequence[float] = ()
) -> Iterator[tuple[list[RlRow], Batch]]:
    """Micro-batches of rows, groups kept together so that they share their prompt."""
    by_group: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_group.setdefault(row.group, []).append(i)
    groups = list(by_group.values())
    for chosen in micro_batches([group_cost([rows[i] for i in group]) for group in groups], budget):
        picked = [groups[g][r] for g, r in chosen]
        values: dict[str, list[Sequence[float]]] = {"sampled": [rows[i].sampled for i in picked]}
        for name in streams:
            values[name] = [getattr(rows[i], name) for i in picked]
        if weights:
            values["weight"] = [[weights[i]] * rows[i].trained for i in picked]
        yield [rows[i] for i in picked], pack([rows[i].row for i in picked], values, device=device)


def group_cost(rows: Sequence[RlRow]) -> list[int]:
    """Packed tokens of each row of a group: the first carries the prompt, the others only what they wrote."""
    return [len(row.row.tokens) if i == 0 else row.trained for i, row in enumerate(rows)]


def add_scores(
    policy: Policy, rows: Sequence[RlRow], config: PolicyGradientConfig, method: Method, coefficient: float
) -> dict[str, float]:
    """Score the rows, and take the KL off the advantages.

    The KL's advantage is -coefficient · (row's k1 - mean of its group), taken beside the normalised task advantage, so that
    normalising the reward does not change what the coefficient means.
    """
    metrics = score_rows(policy, rows, config, coefficient)
    if coefficient > 0 and config.kl.form == "k1_reward":
        penalise(rows, coefficient)
    return metrics


def score_rows(policy: Policy, rows: Sequence[RlRow], config: PolicyGradientConfig, coefficient: float) -> dict[str, float]:
    """Fill `old` where several updates follow and `reference` where there is a KL."""
    began = time.perf_counter()
    needs_old = config.epochs * config.minibatches > 1
    needs_reference = coefficient > 0
    if not (needs_old or needs_reference):
        return {"time/score": 0.0}
    means = Means()
    for picked, batch in packed(rows, config.micro_batch_tokens, policy.device):
        if needs_old:
            with torch.no_grad():
                spread(picked, batch, "old", policy.score(batch, temperature=config.temperature).logprobs_L)
        if needs_reference:
            reference = policy.reference_logprobs(batch, temperature=config.temperature)
            spread(picked, batch, "reference", reference)
            sampled = batch.streams["sampled"]
            means.add(len(batch), k1=k1(sampled, reference), k3=k3(sampled, reference))
    return {**means.result({"k1": "kl/k1", "k3": "kl/k3"}), "time/score": time.perf_counter() - began}


def spread(rows: Sequence[RlRow], batch: Batch, name: str, values_L: Tensor) -> None:
    for i, row in enumerate(rows):
        setattr(row, name, floats(values_L[batch.row_L == i].tolist()))


def penalise(rows: Sequence[RlRow], coefficient: float) -> None:
    divergence = [sum(row.sampled) - sum(row.reference) for row in rows]
    members: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        members.setdefault(row.group, []).append(i)
    for group in members.values():
        mean = sum(divergence[i] for i in group) / len(group)
        for i in group:
            rows[i].advantages = [a - coefficient * (divergence[i] - mean) for a in rows[i].advantages]


@dataclass
class Tally:
    """What the updates of a round came to. The gap is of the first alone: later ones have moved away by themselves."""

    means: Means = field(default_factory=Means)
    gap: Means = field(default_factory=Means)
    loss: float = 0.0

    def metrics(self) -> dict[str, float]:
        found = self.means.result({"entropy": "entropy", "low": "clip/low", "high": "clip/high", "kl": "kl/loss"})
        gap = self.gap.result({"gap": "gap/mean"}) | self.gap.largest
        return {**found, **gap, "loss": self.loss, "tokens/trained": float(self.means.count)}


def update(
    policy: Policy,
    rows: Sequence[RlRow],
    config: PolicyGradientConfig,
    method: Method,
    coefficient: float,
    *,
    seed: int,
    index: int,
) -> dict[str, float]:
    """`epochs` × `minibatches` optimizer steps. Metrics are of all of them. Raises BrokenStep."""
    began, tally = time.perf_counter(), Tally()
    metrics: dict[str, float] = {}
    for first, chosen in passes(rows, config, seed, index):
        loss = accumulate(policy, chosen, config, method, coefficient, tally, first, index)
        metrics |= stepped(policy.step, chosen, loss, index)
    return {**metrics, **tally.metrics(), "time/update": time.perf_counter() - began}


def passes(rows: Sequence[RlRow], config: PolicyGradientConfig, seed: int, index: int) -> Iterator[tuple[bool, list[RlRow]]]:
    """The rows of each optimizer step of a round, and whether it is the first."""
    for epoch in range(config.epochs):
        for part, chosen in enumerate(minibatches(rows, config.minibatches, derive(seed, "minibatches", index, epoch))):
            yield epoch == part == 0, chosen


def stepped(step: Callable[[], dict[str, float]], rows: Sequence[RlRow], loss: float, index: int) -> dict[str, float]:
    """Take the optimizer step; one that is not finite breaks the loop before it changed anything."""
    try:
        return step()
    except NonFinite as error:
        raise BrokenStep(index, {"loss": loss, "grad_norm": error.grad_norm}, batch=pack([r.row for r in rows])) from error


def require_agreement(policy: Policy, found: Mapping[str, float], budget: float, index: int) -> None:
    """Sampler and trainer hold the same weights, by what they say of the same tokens, before anything is updated."""
    if found.get("gap/mean", 0.0) > budget:
        policy.optimizer.zero_grad()
        raise BrokenStep(
            index,
            found,
            reason=f"sampler and trainer differ by {found['gap/mean']:.3f} in log-probability (budget {budget})",
            fix="The sampler's weights or arithmetic are not the trainer's; raise mismatch_budget only if that is meant.",
        )


def minibatches(rows: Sequence[RlRow], parts: int, seed: int) -> Iterator[list[RlRow]]:
    """Whole groups, shuffled, in `parts` nearly equal minibatches."""
    groups = sorted({row.group for row in rows})
    if parts > 1:
        random.Random(seed).shuffle(groups)
    for part in range(parts):
        chosen = set(groups[part::parts])
        if picked := [row for row in rows if row.group in chosen]:
            yield picked


def accumulate(
    policy: Policy,
    rows: Sequence[RlRow],
    config: PolicyGradientConfig,
    method: Method,
    coefficient: float,
    tally: Tally,
    first: bool,
    index: int,
) -> float:
    """Gradients of one optimizer step. Rows without advantage are weighed but, unless a KL loss moves them, not computed.
    Before the `first` step of a round sampler and trainer must agree."""
    weights = REDUCTIONS[method.reduction]([row.trained for row in rows], config.max_tokens)
    kl_loss = KL_LOSSES.get(config.kl.form) if coefficient > 0 else None
    kept = [i for i, row in enumerate(rows) if row.trained and (any(row.advantages) or kl_loss)]
    streams = [name for name in ("advantages", "old", "reference") if kept and len(getattr(rows[kept[0]], name))]
    total = 0.0
    for _, batch in packed([rows[i] for i in kept], config.micro_batch_tokens, policy.device, streams, [weights[i] for i in kept]):
        s = batch.streams
        scored = policy.score(batch, temperature=config.temperature)
        old = s["old"] if "old" in s else scored.logprobs_L.detach()
        terms = POLICY_LOSSES[method.policy_loss](
            scored.logprobs_L, old, s["advantages"], batch.row_L, method.clip_low, method.clip_high
        )
        loss = (s["weight"] * truncated_importance(old, s["sampled"], config.importance_cap) * terms.loss_L).sum()
        if kl_loss:
            divergence = kl_loss(scored.logprobs_L, s["reference"])
            loss = loss + coefficient * (s["weight"] * divergence).sum()
            tally.means.add(0, kl=divergence)
        if fault("step:loss"):
            loss = loss * math.nan
        if not math.isfinite(loss.item()):
            policy.optimizer.zero_grad()
            raise BrokenStep(index, {"loss": loss.item()}, batch=batch)
        loss.backward()
        total += loss.item()
        tally.means.add(len(batch), entropy=scored.entropy_L, low=terms.low_L, high=terms.high_L)
        if first:
            difference = (scored.logprobs_L.detach() - s["sampled"]).abs()
            tally.gap.add(len(batch), gap=difference)
            tally.gap.largest["gap/max"] = max(tally.gap.largest.get("gap/max", 0.0), float(difference.max()))
    tally.loss += total
    if first:
        require_agreement(policy, tally.gap.result({"gap": "gap/mean"}) | tally.gap.largest, config.mismatch_budget, index)
    return total
