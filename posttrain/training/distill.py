"""On-policy distillation: the student writes, the teacher's distribution after each of its tokens is what it is moved towards.

GKD (arXiv:2306.13649, algorithm 1): each step is on the student's own samples with probability λ, else on rows that others
wrote. No gradient goes through the sampling. Letters: L trained tokens.
"""

from __future__ import annotations

import math
import random
import time
from array import array
from collections.abc import AsyncIterator, Mapping, Sequence

import torch
from transformers import PreTrainedModel

from posttrain.algorithms.distillation import Distilled, TileLoss, distilled, divergence, tile_loss
from posttrain.algorithms.policy import truncated_importance
from posttrain.algorithms.weights import REDUCTIONS
from posttrain.core.config.distill import DistillConfig
from posttrain.core.faults import fault
from posttrain.core.order import item_at
from posttrain.core.protocols import Generator
from posttrain.core.seeds import derive
from posttrain.core.types import Group, TokenRow, floats, ints
from posttrain.models.heads import hidden_states
from posttrain.models.packing import Batch
from posttrain.training.driver import BrokenStep, Step
from posttrain.training.policy import Policy
from posttrain.training.rl_step import Means, RlRow, packed, require_agreement, stepped
from posttrain.training.rounds import Collect, require_fresh, require_version, rollout_metrics
from posttrain.training.sft import Rows

IMPORTANCE_CAP = 2.0
"""Truncation of the ratio between trainer and sampler, where the sampled token is all that is looked at."""
OF_SAMPLES = ("length/", "tokens/", "rollouts/failed")
"""What can be said of samples that nobody graded."""


async def distill(
    policy: Policy,
    teacher: PreTrainedModel,
    generator: Generator,
    collect: Collect,
    rows: Rows | None,
    config: DistillConfig,
    *,
    seed: int,
    start: int,
    state: Mapping[str, float],
) -> AsyncIterator[Step]:
    """Yields a Step per optimizer step. Raises BrokenStep when sampler and trainer are apart, nothing was written, or a number
    is not finite."""
    position, read = int(state.get("position", 0)), int(state.get("read", 0))
    await generator.update(policy.version)
    for index in range(start, config.steps):
        began = time.perf_counter()
        groups: Sequence[Group] = ()
        metrics: dict[str, float] = {}
        own = on_own_samples(config.on_policy, seed, index)
        if own:
            collected = await collect(index, position)
            position, groups = collected.position, collected.groups
            found = {**rollout_metrics(groups), **collected.metrics}
            metrics = {name: value for name, value in found.items() if name.startswith((*OF_SAMPLES, "time/"))}
            require_version(groups, policy.version, index, metrics)
            learnt_from = written(groups)
        else:
            assert rows is not None
            learnt_from = given(rows, read, config.batch_size, derive(seed, "rows"))
            read += config.batch_size
        metrics |= learn(policy, teacher, learnt_from, config, index, own=own)
        await generator.update(policy.version)
        require_fresh(policy, index, metrics)
        metrics |= {"on_policy": float(own), "time/step": time.perf_counter() - began}
        shown = {"kl": metrics["kl/teacher"], "agreement": metrics["agreement"]}
        yield Step(index, metrics, {"position": position, "read": read}, groups, shown=shown)


def on_own_samples(share: float, seed: int, index: int) -> bool:
    return random.Random(derive(seed, "on-policy", index)).random() < share


def written(groups: Sequence[Group]) -> list[RlRow]:
    """What the student wrote; failed rollouts have nothing to learn from."""
    return [
        RlRow(group.task.id, rollout.sample, t, row, 0.0)
        for t, group in enumerate(groups)
        for rollout in group.rollouts
        if rollout.status != "failed"
        for row in rollout.rows
    ]


def given(rows: Rows, read: int, count: int, seed: int) -> list[RlRow]:
    """The next rows of a walk over those that others wrote."""
    found = [rows[item_at(read + i, len(rows), seed)] for i in range(count)]
    return [RlRow("", i, i, unsampled(tokens, mask), 0.0) for i, (tokens, mask) in enumerate(found)]


def unsampled(tokens: array[int], mask: array[int]) -> TokenRow:
    return TokenRow(ints(tokens), ints(mask), floats([0.0] * len(tokens)), ints([-1] * len(tokens)))


def compare(policy: Policy, teacher: PreTrainedModel, batch: Batch, loss: TileLoss, temperature: float) -> Distilled:
    """Student and teacher on the same tokens. The teacher first: its activations are gone before the student's come."""
    with torch.no_grad():
        theirs = hidden_states(teacher, batch)
    ours = hidden_states(policy.model, batch)
    student_head, teacher_head = (model.get_output_embeddings().weight for model in (policy.model, teacher))
    return distilled(ours, student_head, theirs, teacher_head.detach(), batch.target_L, loss, temperature)


def learn(
    policy: Policy, teacher: PreTrainedModel, rows: Sequence[RlRow], config: DistillConfig, index: int, *, own: bool
) -> dict[str, float]:
    """One optimizer step. Weights are fixed over all rows before the models run."""
    began = time.perf_counter()
    if not any(row.trained for row in rows):
        raise BrokenStep(index, {}, reason="the student wrote nothing", fix="Check that the prompts fit into its context.")
    weights = REDUCTIONS[config.reduction]([row.trained for row in rows], config.max_tokens)
    loss_of = tile_loss(config.over, divergence(config.divergence, config.beta), config.top_k)
    means, gap, total = Means(), Means(), 0.0
    for _, batch in packed(rows, config.micro_batch_tokens, policy.device, weights=weights):
        found = compare(policy, teacher, batch, loss_of, config.temperature)
        weight, sampled = batch.streams["weight"], batch.streams["sampled"]
        if config.over == "sampled":
            weight = weight * truncated_importance(found.logprobs_L, sampled, IMPORTANCE_CAP)
        loss = (weight * found.value_L).sum()
        if fault("step:loss"):
            loss = loss * math.nan
        if not math.isfinite(loss.item()):
            policy.optimizer.zero_grad()
            raise BrokenStep(index, {"loss": loss.item()}, batch=batch)
        loss.backward()
        total += loss.item()
        means.add(len(batch), kl=found.reverse_kl_L, entropy=found.entropy_L, agreement=found.agreement_L)
        if own:
            difference = (found.logprobs_L - sampled).abs()
            gap.add(len(batch), gap=difference)
            gap.largest["gap/max"] = max(gap.largest.get("gap/max", 0.0), float(difference.max()))
    apart = gap.result({"gap": "gap/mean"}) | gap.largest
    require_agreement(policy, apart, config.mismatch_budget, index)
    metrics = means.result({"kl": "kl/teacher", "entropy": "entropy", "agreement": "agreement"}) | apart
    metrics |= {"loss": total, "tokens/trained": float(means.count)}
    return {**metrics, **stepped(policy.step, rows, total, index), "time/update": time.perf_counter() - began}
