"""Supervised fine-tuning: raise the log-probability of the trained tokens, each counting the same in the global batch."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from posttrain.algorithms.weights import token_mean
from posttrain.core.config import MidtrainConfig, SftConfig, TrainConfig
from posttrain.core.faults import fault
from posttrain.core.order import item_at
from posttrain.core.seeds import derive
from posttrain.models.packing import micro_batches, pack
from posttrain.training.driver import BrokenStep, Step
from posttrain.training.optimizer import NonFinite
from posttrain.training.policy import Policy


class Rows(Protocol):
    """Encoded rows by index: tokens and loss mask."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[array[int], array[int]]: ...


@dataclass(frozen=True)
class Encoded:
    tokens: Sequence[int]
    mask: Sequence[int]


def total_steps(config: SftConfig | MidtrainConfig, rows: int) -> int:
    return config.steps or math.ceil(config.epochs * rows / config.batch_size)


async def sft(
    policy: Policy, rows: Rows, train: Sequence[int], held_out: Sequence[int], config: SftConfig, *, seed: int, start: int
) -> AsyncIterator[Step]:
    """Train on the rows numbered in `train`, in an order fixed by the seed; measure the loss on those in `held_out`."""
    total = total_steps(config, len(train))
    for index in range(start, total):
        began = time.perf_counter()
        positions = range(index * config.batch_size, (index + 1) * config.batch_size)
        batch = [Encoded(*rows[train[item_at(p, len(train), derive(seed, "order"))]]) for p in positions]
        metrics = train_step(policy, batch, config, index)
        if held_out and (index + 1 == total or (index + 1) % config.validate_every == 0):
            metrics["loss/validation"] = validation_loss(policy, [Encoded(*rows[i]) for i in held_out], config.micro_batch_tokens)
        metrics["time/step"] = time.perf_counter() - began
        shown: dict[str, float] = {name: metrics[name] for name in ("loss", "loss/validation") if name in metrics}
        yield Step(index, metrics, {}, shown=shown)


def train_step(policy: Policy, rows: Sequence[Encoded], config: TrainConfig, index: int) -> dict[str, float]:
    """One optimizer step on `rows`. Raises BrokenStep."""
    metrics = imitate(policy, rows, config.micro_batch_tokens, index)
    try:
        return {**metrics, **policy.step()}
    except NonFinite as error:
        raise BrokenStep(index, {**metrics, "grad_norm": error.grad_norm}, batch=pack(rows)) from error


def imitate(policy: Policy, rows: Sequence[Encoded], budget: int, index: int, *, coefficient: float = 1.0) -> dict[str, float]:
    """Gradients of coefficient · mean negative log-likelihood per trained token of `rows`, in as many micro-batches as memory
    asks for. The loss that is told has no coefficient in it. Raises BrokenStep."""
    lengths = [sum(row.mask) for row in rows]
    weights = token_mean(lengths, 0)
    loss = entropy = 0.0
    for chosen in micro_batches([[len(row.tokens)] for row in rows], budget):
        picked = [g for g, _ in chosen]
        batch = pack([rows[i] for i in picked], {"weight": [[weights[i]] * lengths[i] for i in picked]}, device=policy.device)
        scored = policy.score(batch)
        term = -(batch.streams["weight"] * scored.logprobs_L).sum()
        if fault("step:loss"):
            term = term * math.nan
        loss += term.item()
        entropy += float((batch.streams["weight"] * scored.entropy_L).sum())
        if not math.isfinite(loss):
            policy.optimizer.zero_grad()
            raise BrokenStep(index, {"loss": loss}, batch=batch)
        (coefficient * term).backward()
    return {"loss": loss, "entropy": entropy, "tokens/trained": float(sum(lengths))}


@torch.no_grad()
def row_losses(policy: Policy, rows: Sequence[Encoded], budget: int) -> list[tuple[float, int]]:
    """For each row the sum of its trained tokens' negative log-likelihoods, and how many they are."""
    found = [(0.0, 0)] * len(rows)
    for chosen in micro_batches([[len(row.tokens)] for row in rows], budget):
        batch = pack([rows[g] for g, _ in chosen], device=policy.device)
        losses = torch.zeros(len(chosen), dtype=torch.float64, device=policy.device)
        losses.index_add_(0, batch.row_L, -policy.score(batch).logprobs_L.double())
        counts = torch.bincount(batch.row_L, minlength=len(chosen)).tolist()
        for (row, _), loss, count in zip(chosen, losses.tolist(), counts, strict=True):
            found[row] = (loss, count)
    return found


def validation_loss(policy: Policy, rows: Sequence[Encoded], budget: int) -> float:
    """Mean negative log-likelihood per trained token of rows that are never trained on."""
    losses = row_losses(policy, rows, budget)
    count = sum(tokens for _, tokens in losses)
    return sum(loss for loss, _ in losses) / count if count else math.nan
