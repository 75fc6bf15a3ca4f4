"""DPO and its relatives: raise what is preferred above what is not, every pair counting the same in the global batch.

An element is a prompt with all its compared answers, packed together so that the prompt is computed once, and never split:
its pairs need all its answers. The reference is never in memory: its log-probabilities are numbers that come with the
element. Letters: P pairs, R answers, L trained tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from posttrain.algorithms.preference import LOSSES, Answers, Method, expected, mismatched_kl, nll
from posttrain.core.config import DpoConfig, PairLoss, TrainConfig
from posttrain.core.faults import fault
from posttrain.core.order import item_at
from posttrain.core.seeds import derive
from posttrain.core.types import Pair, ints
from posttrain.models.packing import Batch, common_prefix, micro_batches, pack
from posttrain.training.driver import BrokenStep, Step
from posttrain.training.optimizer import NonFinite
from posttrain.training.policy import Policy


@dataclass(frozen=True)
class Answer:
    """A prompt with one answer: the tokens, and 1 in `mask` for each that counts. `sampled` are the sampler's log-probs of
    those, where a sampler wrote the answer."""

    tokens: Sequence[int]
    mask: Sequence[int]
    sampled: Sequence[float] = ()


@dataclass(frozen=True)
class Compared:
    """K answers to one prompt, the pairs among them or the label of each, and the reference's log-prob of each answer.

    `mismatched` are answers of other prompts to this prompt, which only KTO needs.
    """

    answers: Sequence[Answer]
    pairs: Sequence[Pair]
    labels: Sequence[bool] = ()
    reference: Sequence[float] = ()
    mismatched: Sequence[Answer] = ()
    mismatched_reference: Sequence[float] = ()


class Comparisons(Protocol):
    """Elements by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Compared: ...


@dataclass(frozen=True)
class Objective:
    """What a step minimises: the loss, the settings it was given or has of its own, the weight of the chosen's likelihood."""

    method: Method
    settings: Mapping[str, float]
    nll: float
    temperature: float = 1.0


def objective(config: PairLoss, *, temperature: float = 1.0) -> Objective:
    method = LOSSES[config.loss]
    given = {
        "beta": config.beta,
        "label_smoothing": config.label_smoothing,
        "gamma": config.gamma,
        "desirable_weight": config.desirable_weight,
        "undesirable_weight": config.undesirable_weight,
    }
    settings = {name: default if (value := given[name]) is None else value for name, default in method.settings.items()}
    return Objective(method, settings, method.nll if config.nll is None else config.nll, temperature)


def total_steps(config: DpoConfig, preferences: int) -> int:
    return config.steps or math.ceil(config.epochs * preferences / config.batch_size)


async def dpo(
    policy: Policy, data: Comparisons, train: Sequence[int], held_out: Sequence[int], config: DpoConfig, *, seed: int, start: int
) -> AsyncIterator[Step]:
    """Train on the elements numbered in `train`, in an order fixed by the seed; measure on those in `held_out`."""
    total, aim = total_steps(config, len(train)), objective(config)
    for index in range(start, total):
        began = time.perf_counter()
        places = range(index * config.batch_size, (index + 1) * config.batch_size)
        batch = [data[train[item_at(place, len(train), derive(seed, "order"))]] for place in places]
        metrics = train_step(policy, batch, aim, config, index)
        if held_out and (index + 1 == total or (index + 1) % config.validate_every == 0):
            metrics |= validation(policy, [data[i] for i in held_out], aim, config.micro_batch_tokens)
        metrics["time/step"] = time.perf_counter() - began
        shown: dict[str, float] = {name: metrics[name] for name in ("loss", "accuracy", "accuracy/validation") if name in metrics}
        yield Step(index, metrics, {}, shown=shown)


def accept(metrics: Mapping[str, float]) -> None:
    """Take every step whose numbers are finite."""


def train_step(
    policy: Policy,
    elements: Sequence[Compared],
    aim: Objective,
    config: TrainConfig,
    index: int,
    check: Callable[[Mapping[str, float]], None] = accept,
) -> dict[str, float]:
    """One optimizer step, in as many micro-batches as memory asks for. `check` sees the metrics before the weights change and
    may raise. Raises BrokenStep."""
    count, divergence = counted(elements, aim), kto_divergence(policy, elements, aim, config.micro_batch_tokens)
    means = Means()
    loss = 0.0
    batch: Batch | None = None
    for part in whole(elements, config.micro_batch_tokens):
        batch = packed(part, policy.device)
        scored = policy.score(batch, temperature=aim.temperature)
        term = losses(part, batch, scored.logprobs_L, aim, divergence, means) / count
        means.add("entropy", scored.entropy_L)
        if fault("step:loss"):
            term = term * math.nan
        loss += term.item()
        if not math.isfinite(loss):
            policy.optimizer.zero_grad()
            raise BrokenStep(index, {"loss": loss}, batch=batch)
        term.backward()
    metrics = {"loss": loss, **named(means), "pairs": float(sum(len(element.pairs) for element in elements))}
    if aim.method is LOSSES["kto"]:
        metrics["kl/mismatched"] = float(divergence)
    try:
        check(metrics)
        return {**metrics, **policy.step()}
    except NonFinite as error:
        raise BrokenStep(index, {**metrics, "grad_norm": error.grad_norm}, batch=batch) from error


@torch.no_grad()
def validation(policy: Policy, elements: Sequence[Compared], aim: Objective, budget: int) -> dict[str, float]:
    """Loss, accuracy and margin on preferences that are never trained on."""
    count, divergence = counted(elements, aim), kto_divergence(policy, elements, aim, budget)
    means, loss = Means(), 0.0
    for part in whole(elements, budget):
        batch = packed(part, policy.device)
        logprobs = policy.score(batch, temperature=aim.temperature).logprobs_L
        loss += float(losses(part, batch, logprobs, aim, divergence, means)) / count
    found = named(means)
    measured = {name: found[name] for name in ("accuracy", "rewards/margin") if name in found}
    return {"loss/validation": loss, **{f"{name}/validation": value for name, value in measured.items()}}


def losses(
    elements: Sequence[Compared], batch: Batch, logprobs_L: Tensor, aim: Objective, divergence: Tensor, means: Means
) -> Tensor:
    """The sum of a micro-batch's losses, with the gradient. Measures go into `means`."""
    answers = summed(elements, batch, logprobs_L)
    if aim.method.reference:
        means.add("kl/answers", answers.ratio, answers.lengths)
    if "sampled" in batch.streams:
        means.add("gap/mean", (logprobs_L.detach() - batch.streams["sampled"]).abs())
    rewards = aim.method.rewards(answers, aim.settings["beta"])
    if not aim.method.paired:
        good, bad = desirability(elements, logprobs_L.device)
        right = torch.where(answers.ratio.detach() > divergence, good, bad)
        means.add("accuracy", right, good + bad)
        for name, weight in (("chosen", good), ("rejected", bad)):
            means.add(f"rewards/{name}", rewards * weight, weight)
            means.add(f"logprobs/{name}", answers.logprobs * weight, weight)
        return aim.method.loss(answers, good, bad, divergence, **aim.settings).sum()
    better, worse, probability = sides(elements, logprobs_L.device)
    chosen, rejected = answers[better], answers[worse]
    loss_P = expected(aim.method.loss, chosen, rejected, probability, **aim.settings)
    if aim.nll:
        likelihood = nll(chosen)
        loss_P = loss_P + aim.nll * probability * likelihood
        means.add("loss/nll", likelihood)
    for name, rows, side in (("chosen", better, chosen), ("rejected", worse, rejected)):
        means.add(f"rewards/{name}", rewards[rows])
        means.add(f"logprobs/{name}", side.logprobs)
    means.add("accuracy", (rewards[better] > rewards[worse]).float())
    return loss_P.sum()


def summed(elements: Sequence[Compared], batch: Batch, logprobs_L: Tensor) -> Answers:
    """Each answer's log-prob under the policy, summed over its tokens, beside the reference's."""
    logprobs = torch.zeros(batch.rows, dtype=logprobs_L.dtype, device=logprobs_L.device).index_add(0, batch.row_L, logprobs_L)
    lengths = torch.zeros_like(logprobs).index_add(0, batch.row_L, torch.ones_like(logprobs_L))
    reference = [value for element in elements for value in (element.reference or [0.0] * len(element.answers))]
    return Answers(logprobs, logprobs.new_tensor(reference), lengths)


def sides(elements: Sequence[Compared], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """better_P, worse_P (numbers of packed answers) and probability_P of all pairs."""
    better, worse, probability = [], [], []
    first = 0
    for element in elements:
        for pair in element.pairs:
            better.append(first + pair.better)
            worse.append(first + pair.worse)
            probability.append(pair.probability)
        first += len(element.answers)
    return (
        torch.tensor(better, dtype=torch.long, device=device),
        torch.tensor(worse, dtype=torch.long, device=device),
        torch.tensor(probability, dtype=torch.float32, device=device),
    )


def desirability(elements: Sequence[Compared], device: torch.device) -> tuple[Tensor, Tensor]:
    """How often each answer counts as desirable and as undesirable: by its label, or once a pair it stands in."""
    good, bad = [], []
    for element in elements:
        of = [[float(label), float(not label)] for label in element.labels] or [[0.0, 0.0] for _ in element.answers]
        for pair in element.pairs:
            for side, likely in ((pair.better, pair.probability), (pair.worse, 1 - pair.probability)):
                of[side][0] += likely
                of[side][1] += 1 - likely
        good += [each[0] for each in of]
        bad += [each[1] for each in of]
    return torch.tensor(good, device=device), torch.tensor(bad, device=device)


def counted(elements: Sequence[Compared], aim: Objective) -> float:
    """What the sum of losses is divided by: the pairs of the global batch, or KTO's labelled answers."""
    if aim.method.paired:
        return float(sum(len(element.pairs) for element in elements))
    return float(sum(len(element.labels) + 2 * len(element.pairs) for element in elements))


def kto_divergence(policy: Policy, elements: Sequence[Compared], aim: Objective, budget: int) -> Tensor:
    """KTO's z over the global batch, from a forward without a gradient before the step; 0 for other methods."""
    if aim.method.paired:
        return torch.zeros((), device=policy.device)
    others = [replace(each, answers=each.mismatched, reference=each.mismatched_reference) for each in elements]
    found = row_sums(lambda batch: policy.score(batch, temperature=aim.temperature).logprobs_L, others, budget, policy.device)
    policy_R = torch.tensor([value for row in found for value in row])
    reference_R = torch.tensor([value for each in others for value in each.reference])
    return mismatched_kl(Answers(policy_R, reference_R, torch.ones_like(policy_R))).to(policy.device)


@torch.no_grad()
def row_sums(
    score: Callable[[Batch], Tensor], elements: Sequence[Compared], budget: int, device: torch.device
) -> list[list[float]]:
    """The log-probability of each answer of each element under `score`, summed over its counted tokens."""
    found: list[float] = []
    for part in whole(elements, budget):
        batch = packed(part, device)
        logprobs_L = score(batch)
        found += torch.zeros(batch.rows, device=device).index_add(0, batch.row_L, logprobs_L).tolist()
    values = iter(found)
    return [[next(values) for _ in element.answers] for element in elements]


def packed(elements: Sequence[Compared], device: torch.device) -> Batch:
    rows = [answer for element in elements for answer in element.answers]
    streams = {"sampled": [row.sampled for row in rows]} if all(row.sampled for row in rows) else {}
    return pack(rows, streams, device=device)


def whole(elements: Sequence[Compared], budget: int) -> Iterator[list[Compared]]:
    """Micro-batches of whole elements."""
    for chosen in micro_batches([[cost(element.answers)] for element in elements], budget):
        yield [elements[number] for number, _ in chosen]


def cost(answers: Sequence[Answer]) -> int:
    """Tokens that the answers to one prompt take when they are packed together, at most."""
    shared = min((common_prefix(answers[0].tokens, answer.tokens) for answer in answers[1:]), default=0)
    return shared + sum(len(answer.tokens) - shared for answer in answers)


def mismatch(of: Sequence[Answer], others: Sequence[Answer]) -> list[Answer]:
    """The prompt of each of `of` with an answer of `others`, in turn. An answer begins with its first counted token."""
    made = []
    for number, own in enumerate(of):
        other = others[number % len(others)]
        before, after = list(own.mask).index(1), list(other.mask).index(1)
        tokens = [*own.tokens[:before], *other.tokens[after:]]
        made.append(Answer(ints(tokens), [0] * before + list(other.mask[after:])))
    return made


def without_formatting(answer: Answer, formatting: frozenset[int]) -> Answer:
    """The answer with its end-of-turn tokens read but not counted (arXiv:2407.21783, section 4.1.4)."""
    mask = [m and int(token not in formatting) for token, m in zip(answer.tokens, answer.mask, strict=True)]
    counted_before = [token not in formatting for token, m in zip(answer.tokens, answer.mask, strict=True) if m]
    sampled = [value for value, kept in zip(answer.sampled, counted_before, strict=True) if kept] if answer.sampled else ()
    return replace(answer, mask=mask, sampled=sampled) if any(mask) else answer


class Means:
    """Weighted means by name, over all micro-batches of a step."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.weights: dict[str, float] = {}

    def add(self, name: str, values: Tensor, weights: Tensor | None = None) -> None:
        """Add the sum of `values`, which are weighed already, over the sum of their weights; over their number without."""
        over = float(values.numel()) if weights is None else float(weights.detach().double().sum())
        self.sums[name] = self.sums.get(name, 0.0) + float(values.detach().double().sum())
        self.weights[name] = self.weights.get(name, 0.0) + over

    def result(self) -> dict[str, float]:
        return {name: total / self.weights[name] for name, total in self.sums.items() if self.weights[name]}


def named(means: Means) -> dict[str, float]:
    """The means and the margin between the implicit rewards. `kl/answers` is the log-ratio a token of the compared answers: an
    estimate of KL(policy‖reference) as far as the policy would write them."""
    found = means.result()
    if "rewards/chosen" in found and "rewards/rejected" in found:
        found["rewards/margin"] = found["rewards/chosen"] - found["rewards/rejected"]
    return found
