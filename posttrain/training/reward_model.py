"""Reward models: raise the better answer's reward above the worse one's, all pairs of a prompt as one element.

A prompt and its answers are packed together, so the prompt is computed once and pairs need no second pass. Members of an
ensemble train on the same batches, each by its own optimizer and gradient norm, so that each is what it would be alone.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from posttrain.algorithms.reward_model import bradley_terry, centring, pair_weights, smoothed
from posttrain.core.config import RewardModelConfig
from posttrain.core.faults import fault
from posttrain.core.order import item_at
from posttrain.core.seeds import derive
from posttrain.core.types import Pair
from posttrain.models.packing import Batch, common_prefix, micro_batches, pack
from posttrain.models.reward_model import Member, RewardModel
from posttrain.training.driver import BrokenStep, Step
from posttrain.training.optimizer import MasterAdamW, NonFinite
from posttrain.training.schedule import learning_rate


class Compared(Protocol):
    """K encoded answers to one prompt, and the pairs among them."""

    @property
    def rows(self) -> Sequence[array[int]]: ...
    @property
    def masks(self) -> Sequence[array[int]]: ...
    @property
    def pairs(self) -> Sequence[Pair]: ...


class Preferences(Protocol):
    """Encoded preferences by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Compared: ...


@dataclass(frozen=True)
class RowTokens:
    """A row of a batch that is kept for study after a broken step."""

    tokens: array[int]
    mask: array[int]


class TrainedReward:
    """A reward model with its optimizers, one a member. `version` counts steps."""

    def __init__(self, reward: RewardModel, config: RewardModelConfig, *, total_steps: int, seed: int) -> None:
        torch.manual_seed(derive(seed, "torch"))  # for models that draw random numbers of their own, such as dropout
        self.reward, self.config, self.total_steps, self.version = reward, config, total_steps, 0
        self.optimizers = [
            MasterAdamW({name: p for name, p in member.named_parameters() if p.requires_grad}, config) for member in reward.members
        ]

    def step(self) -> dict[str, float]:
        """Every member's optimizer step. Raises NonFinite before anything changed."""
        rate = learning_rate(self.config, self.version, self.total_steps)
        for optimizer in self.optimizers:
            if not math.isfinite(norm := gradient_norm(optimizer)):
                self.zero_grad()
                raise NonFinite(norm)
        norms = [optimizer.step(rate, self.config.max_grad_norm) for optimizer in self.optimizers]
        self.version += 1
        return {"grad_norm": max(norms), "learning_rate": rate}

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        members = {
            f"{i}/{name}": tensor for i, optimizer in enumerate(self.optimizers) for name, tensor in optimizer.state().items()
        }
        return {**members, "random/torch": torch.random.get_rng_state()}

    def load_state(self, tensors: Mapping[str, Tensor], version: int) -> None:
        for i, optimizer in enumerate(self.optimizers):
            optimizer.load({name.removeprefix(f"{i}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{i}/")})
        torch.random.set_rng_state(tensors["random/torch"])
        self.version = version


def gradient_norm(optimizer: MasterAdamW) -> float:
    norms = [torch.linalg.vector_norm(m.grad) for m in optimizer.masters.values() if m.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0


def total_steps(config: RewardModelConfig, preferences: int) -> int:
    return config.steps or math.ceil(config.epochs * preferences / config.batch_size)


async def reward_model(
    trained: TrainedReward,
    preferences: Preferences,
    train: Sequence[int],
    held_out: Sequence[int],
    config: RewardModelConfig,
    *,
    seed: int,
    start: int,
) -> AsyncIterator[Step]:
    """Train on the preferences numbered in `train`, in an order fixed by the seed; measure on those in `held_out`."""
    total = total_steps(config, len(train))
    for index in range(start, total):
        began = time.perf_counter()
        places = range(index * config.batch_size, (index + 1) * config.batch_size)
        batch = [preferences[train[item_at(p, len(train), derive(seed, "order"))]] for p in places]
        metrics = train_step(trained, batch, config, index)
        if held_out and (index + 1 == total or (index + 1) % config.validate_every == 0):
            metrics |= validation(trained.reward, [preferences[i] for i in held_out], config)
        metrics["time/step"] = time.perf_counter() - began
        shown: dict[str, float] = {name: metrics[name] for name in ("loss", "accuracy", "accuracy/validation") if name in metrics}
        yield Step(index, metrics, {}, shown=shown)


def cost(element: Compared) -> int:
    """Tokens that a prompt's rows take when they are packed together, at most."""
    first = element.rows[0]
    shared = min((common_prefix(first, row) for row in element.rows[1:]), default=0)
    return shared + sum(len(row) - shared for row in element.rows)


def whole(elements: Sequence[Compared], budget: int) -> Iterator[list[int]]:
    """Numbers of the elements of each micro-batch. An element is never split: its pairs need all its rows."""
    for chosen in micro_batches([[cost(element)] for element in elements], budget):
        yield [number for number, _ in chosen]


@dataclass(frozen=True)
class PairTensors:
    """The pairs of a micro-batch: rows by number, and what each pair counts in the global batch."""

    better_P: Tensor
    worse_P: Tensor
    probability_P: Tensor
    margin_P: Tensor
    weight_P: Tensor


def pair_tensors(
    elements: Sequence[Compared], weights: Sequence[float], config: RewardModelConfig, device: torch.device
) -> PairTensors:
    better, worse, probability, margin, weight = [], [], [], [], []
    first = 0
    for element, each in zip(elements, weights, strict=True):
        for pair in element.pairs:
            better.append(first + pair.better)
            worse.append(first + pair.worse)
            probability.append(smoothed(pair.probability, config.label_smoothing))
            margin.append(config.margin * (pair.margin or 0.0))
            weight.append(each)
        first += len(element.rows)
    numbers = [torch.tensor(values, dtype=torch.long, device=device) for values in (better, worse)]
    values = [torch.tensor(values, dtype=torch.float32, device=device) for values in (probability, margin, weight)]
    return PairTensors(*numbers, *values)


def pair_loss(rewards_RM: Tensor, pairs: PairTensors, config: RewardModelConfig) -> Tensor:
    """The batch's share of the loss, averaged over the heads of one body."""
    heads = rewards_RM.shape[1]
    total = rewards_RM.new_zeros(())
    for rewards_R in rewards_RM.unbind(1):
        better, worse = rewards_R[pairs.better_P], rewards_R[pairs.worse_P]
        loss_P = bradley_terry(better, worse, pairs.probability_P, pairs.margin_P)
        if config.centring:
            loss_P = loss_P + config.centring * centring(better, worse)
        total = total + (pairs.weight_P * loss_P).sum() / heads
    return total


def train_step(trained: TrainedReward, elements: Sequence[Compared], config: RewardModelConfig, index: int) -> dict[str, float]:
    """One optimizer step a member, in as many micro-batches as memory asks for. Raises BrokenStep."""
    weights = pair_weights([len(element.pairs) for element in elements])
    members = trained.reward.members
    loss, right, pairs_seen = 0.0, 0.0, 0
    rewards: list[float] = []
    picked: list[Compared] = []
    for numbers in whole(elements, config.micro_batch_tokens):
        picked = [elements[i] for i in numbers]
        pairs = pair_tensors(picked, [weights[i] for i in numbers], config, members[0].model.device)
        found = []
        for member in members:
            part, rewards_RM = member_backward(member, picked, pairs, config)
            loss += part / len(members)
            found.append(rewards_RM)
            if not math.isfinite(loss):
                trained.zero_grad()
                raise BrokenStep(index, {"loss": loss}, batch=for_study(picked))
        mean_R = torch.cat(found, dim=1).mean(1)
        right += float((mean_R[pairs.better_P] > mean_R[pairs.worse_P]).sum())
        pairs_seen += len(pairs.better_P)
        rewards += mean_R.tolist()
    spread = torch.tensor(rewards, dtype=torch.float64)
    metrics = {
        "loss": loss,
        "accuracy": right / pairs_seen,
        "reward/mean": float(spread.mean()),
        "reward/std": float(spread.std(unbiased=False)),
    }
    try:
        return {**metrics, **trained.step()}
    except NonFinite as error:
        raise BrokenStep(index, {**metrics, "grad_norm": error.grad_norm}) from error


def for_study(elements: Sequence[Compared]) -> Batch:
    """The batch of a broken step, as the driver writes it down."""
    return pack([RowTokens(*row) for element in elements for row in zip(element.rows, element.masks, strict=True)])


def member_backward(
    member: Member, elements: Sequence[Compared], pairs: PairTensors, config: RewardModelConfig
) -> tuple[float, Tensor]:
    """Add one micro-batch's gradients to a member's. Returns its loss and its rewards."""
    rewards_RM = member([row for element in elements for row in element.rows])
    loss = pair_loss(rewards_RM, pairs, config)
    if fault("step:loss"):
        loss = loss * math.nan
    if math.isfinite(value := loss.item()):
        loss.backward()
    return value, rewards_RM.detach()


@torch.no_grad()
def validation(reward: RewardModel, elements: Sequence[Compared], config: RewardModelConfig) -> dict[str, float]:
    """Loss and accuracy on pairs that are never trained on, the loss with the labels as they stand."""
    weights = pair_weights([len(element.pairs) for element in elements])
    loss, right, count = 0.0, 0.0, 0
    for numbers in whole(elements, config.micro_batch_tokens):
        picked = [elements[i] for i in numbers]
        rewards_RM = reward.score([row for element in picked for row in element.rows], budget=config.micro_batch_tokens)
        pairs = pair_tensors(picked, [weights[i] for i in numbers], config, rewards_RM.device)
        loss += float(pair_loss(rewards_RM, pairs, config))
        mean_R = rewards_RM.mean(1)
        right += float((mean_R[pairs.better_P] > mean_R[pairs.worse_P]).sum())
        count += len(pairs.better_P)
    return {"loss/validation": loss, "accuracy/validation": right / count}
