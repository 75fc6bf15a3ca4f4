"""One round's update: score what has to be scored, then optimizer steps over minibatches.

Every weight is fixed over the minibatch before the model runs, so micro-batches only decide memory.
"""

from __future__ import annotations

import math
import random
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from posttrain.algorithms.family import Method
from posttrain.algorithms.kl import KL_LOSSES, k1, k3
from posttrain.algorithms.policy import POLICY_LOSSES, truncated_importance
from posttrain.algorithms.weights import REDUCTIONS
from posttrain.core.config import GrpoConfig
from posttrain.core.faults import fault
from posttrain.core.seeds import derive
from posttrain.core.types import TokenRow, floats
from posttrain.models.packing import Batch, micro_batches, pack
from posttrain.training.driver import BrokenStep
from posttrain.training.optimizer import NonFinite
from posttrain.training.policy import Policy


@dataclass
class RlRow:
    """A row with its advantage. `old` and `reference` are filled by `add_scores` where the method needs them: one
    log-probability per trained token, under the policy at the start of the round and under the stage's start."""

    task: str
    sample: int
    group: int
    row: TokenRow
    advantage: float
    old: array[float] = field(default_factory=lambda: floats(()))
    reference: array[float] = field(default_factory=lambda: floats(()))

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
            values["advantage"] = [[rows[i].advantage] * rows[i].trained for i in picked]
        yield [rows[i] for i in picked], pack([rows[i].row for i in picked], values, device=device)


def group_cost(rows: Sequence[RlRow]) -> list[int]:
    """Packed tokens of each row of a group: the first carries the prompt, the others only what they wrote."""
    return [len(row.row.tokens) if i == 0 else row.trained for i, row in enumerate(rows)]


def add_scores(policy: Policy, rows: Sequence[RlRow], config: GrpoConfig, method: Method, coefficient: float) -> dict[str, float]:
    """Fill `old` where several updates follow and `reference` where there is a KL, and take the KL off the advantages.

    The KL's advantage is -coefficient · (row's k1 - mean of its group), taken beside the normalised task advantage, so that
    normalising the reward does not change what the coefficient means.
    """
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
    if needs_reference and config.kl.form == "k1_reward":
        penalise(rows, coefficient)
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
            rows[i].advantage -= coefficient * (divergence[i] - mean)


def update(
    policy: Policy, rows: Sequence[RlRow], config: GrpoConfig, method: Method, coefficient: float, *, seed: int, index: int
) -> dict[str, float]:
    """`epochs` × `minibatches` optimizer steps. Metrics are of all of them, but the gap, which is only meaningful before
    the first. Raises BrokenStep."""
    began = time.perf_counter()
    means, gap = Means(), Means()
    loss, trained = 0.0, 0
    metrics: dict[str, float] = {}
    for epoch in range(config.epochs):
        for part, chosen in enumerate(minibatches(rows, config.minibatches, derive(seed, "minibatches", index, epoch))):
            first = epoch == part == 0
            step_loss, count = accumulate(policy, chosen, config, method, coefficient, means, gap if first else None, index)
            loss, trained = loss + step_loss, trained + count
            if first:
                require_agreement(policy, gap, config, index)
            try:
                metrics |= policy.step()
            except NonFinite as error:
                raise BrokenStep(
                    index, {"loss": step_loss, "grad_norm": error.grad_norm}, batch=pack([r.row for r in chosen])
                ) from error
    metrics |= means.result({"entropy": "entropy", "low": "clip/low", "high": "clip/high", "kl": "kl/loss"})
    metrics |= gap.result({"gap": "gap/mean"}) | gap.largest
    return {**metrics, "loss": loss, "tokens/trained": float(trained), "time/update": time.perf_counter() - began}


def require_agreement(policy: Policy, gap: Means, config: GrpoConfig, index: int) -> None:
    """Sampler and trainer hold the same weights, by what they say of the same tokens, before anything is updated."""
    found = gap.result({"gap": "gap/mean"}) | gap.largest
    if found.get("gap/mean", 0.0) > config.mismatch_budget:
        policy.optimizer.zero_grad()
        raise BrokenStep(
            index,
            found,
            reason=f"sampler and trainer differ by {found['gap/mean']:.3f} in log-probability (budget {config.mismatch_budget})",
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
    config: GrpoConfig,
    method: Method,
    coefficient: float,
    means: Means,
    gap: Means | None,
    index: int,
) -> tuple[float, int]:
    """Gradients of one optimizer step. Rows without advantage are weighed but, unless a KL loss moves them, not computed."""
    weights = REDUCTIONS[method.reduction]([row.trained for row in rows], config.max_tokens)
    kl_loss = KL_LOSSES.get(config.kl.form) if coefficient > 0 else None
    kept = [i for i, row in enumerate(rows) if row.trained and (row.advantage != 0 or kl_loss)]
    streams = [name for name in ("old", "reference") if kept and len(getattr(rows[kept[0]], name))]
    total, count = 0.0, 0
    for _, batch in packed([rows[i] for i in kept], config.micro_batch_tokens, policy.device, streams, [weights[i] for i in kept]):
        s = batch.streams
        scored = policy.score(batch, temperature=config.temperature)
        old = s["old"] if "old" in s else scored.logprobs_L.detach()
        terms = POLICY_LOSSES[method.policy_loss](
            scored.logprobs_L, old, s["advantage"], batch.row_L, method.clip_low, method.clip_high
        )
        loss = (s["weight"] * truncated_importance(old, s["sampled"], config.importance_cap) * terms.loss_L).sum()
        if kl_loss:
            divergence = kl_loss(scored.logprobs_L, s["reference"])
            loss = loss + coefficient * (s["weight"] * divergence).sum()
            means.add(0, kl=divergence)
        if fault("step:loss"):
            loss = loss * math.nan
        if not math.isfinite(loss.item()):
            policy.optimizer.zero_grad()
            raise BrokenStep(index, {"loss": loss.item()}, batch=batch)
        loss.backward()
        total, count = total + loss.item(), count + len(batch)
        means.add(len(batch), entropy=scored.entropy_L, low=terms.low_L, high=terms.high_L)
        if gap is not None:
            difference = (scored.logprobs_L.detach() - s["sampled"]).abs()
            gap.add(len(batch), gap=difference)
            gap.largest["gap/max"] = max(gap.largest.get("gap/max", 0.0), float(difference.max()))
    return total, count
