"""Random ragged cases that both sides are given: rows of tokens, their log-probabilities in tables, rewards, labels.

A token's number is its place in the tables. Each side may then make whatever batches it likes of the rows and still look up the
same log-probabilities, and a gradient with respect to them is one vector, the same for both. Number 0 is padding.

Letters: N token numbers.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

SEEDS = range(8)
LONGEST = 24
"""Longest answer in tokens, by which Dr. GRPO divides."""


@dataclass(frozen=True)
class Outcome:
    """A loss and its gradient with respect to the log-probabilities (N) or rewards."""

    loss: float
    gradient: Tensor


@dataclass(frozen=True)
class Row:
    """A prompt of `prompt` tokens and an answer; 1 in `mask` for each token that counts. An answer may have holes, as where a
    tool wrote."""

    tokens: list[int]
    mask: list[int]
    prompt: int

    @property
    def counted(self) -> list[int]:
        return [token for token, m in zip(self.tokens, self.mask, strict=True) if m]


@dataclass(frozen=True)
class Tables:
    """Log-probability of each token (N) under the policy, under the policy at the start of the round, under the reference, and
    as the sampler says it."""

    policy: Tensor
    old: Tensor
    reference: Tensor
    sampled: Tensor


@dataclass(frozen=True)
class RolloutCase:
    """Groups of rows that share a prompt, and the reward of each: not a number where it was not scored."""

    groups: list[list[Row]]
    rewards: list[list[float]]
    tables: Tables

    @property
    def rows(self) -> list[Row]:
        return [row for group in self.groups for row in group]


@dataclass(frozen=True)
class PairCase:
    """Rows chosen and rejected, pair by pair."""

    chosen: list[Row]
    rejected: list[Row]
    tables: Tables


@dataclass(frozen=True)
class LabelCase:
    """Rows that are desirable or not, and one with another prompt's answer for each."""

    rows: list[Row]
    labels: list[bool]
    mismatched: list[Row]
    tables: Tables


@dataclass(frozen=True)
class RowCase:
    """Rows to imitate."""

    rows: list[Row]
    tables: Tables


@dataclass(frozen=True)
class RewardCase:
    """`answers` rewards a prompt, prompt after prompt, and for every two answers of each prompt (better, worse, margin)."""

    rewards: Tensor
    answers: int
    pairs: list[list[tuple[int, int, float]]]


class Maker:
    """Draws rows with fresh token numbers, and in the end the tables.

    Every second row has moved far from the old policy (ratios well outside any clip range), the others hardly (ratios around
    the range of a whole sequence's ratio).
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.spread = [0.0]

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def uniform(self, *size: int) -> Tensor:
        return torch.rand(*size, generator=self.generator)

    def normal(self, *size: int) -> Tensor:
        return torch.randn(*size, generator=self.generator)

    def numbers(self, count: int, spread: float) -> list[int]:
        first = len(self.spread)
        self.spread += [spread] * count
        return list(range(first, first + count))

    def prompt(self, length: int | None = None) -> list[int]:
        return self.numbers(length or self.integer(1, 12), 0.3)

    def row(self, prompt: list[int], *, holes: bool = True) -> Row:
        length = self.integer(2, LONGEST - 4)
        answer = self.numbers(length, self.pick())
        counts = [1] * length
        if holes:
            counts = (self.uniform(length) > 0.15).long().tolist()
            counts[self.integer(0, length - 1)] = 1
        return Row(prompt + answer, [0] * len(prompt) + counts, len(prompt))

    def pick(self) -> float:
        return 0.4 if self.uniform(1) > 0.5 else 1.5e-3

    def tables(self, *, apart: bool = False, moved: bool = True) -> Tables:
        """`moved`: the policy is no longer the old one. `apart`: the sampler's arithmetic is another one."""
        count = len(self.spread)
        policy = -6 * self.uniform(count) ** 3 - 0.01
        old = shifted(policy, self.normal(count) * torch.tensor(self.spread)) if moved else policy
        reference = shifted(policy, 0.5 * self.normal(count))
        sampled = shifted(old, 0.5 * self.normal(count)) if apart else old
        return Tables(policy, old, reference, sampled)


def shifted(logprobs_N: Tensor, by_N: Tensor) -> Tensor:
    return (logprobs_N + by_N).clamp(max=-1e-4)


def rollouts(seed: int, *, moved: bool = False, apart: bool = False, holes: bool = True, unscored: int = 0) -> RolloutCase:
    """Three groups of four; in every second case all rewards of one group are equal. `unscored` of the first group have none."""
    make = Maker(seed)
    groups = []
    for _ in range(3):
        prompt = make.prompt()
        groups.append([make.row(prompt, holes=holes) for _ in range(4)])
    rewards = (2 * make.uniform(3, 4)).round().add(0.3 * make.uniform(3, 4)).tolist()
    if seed % 2:
        rewards[seed % 3] = [0.5] * 4
    rewards[0][:unscored] = [math.nan] * unscored
    return RolloutCase(groups, rewards, make.tables(moved=moved, apart=apart))


def pairs(seed: int, *, whole: bool = False) -> PairCase:
    """Five pairs. `whole`: every token of a row but the first counts, so the prompt is one token and answers have no holes."""
    make = Maker(100 + seed)
    chosen, rejected = [], []
    for _ in range(5):
        prompt = make.prompt(1 if whole else None)
        chosen.append(make.row(prompt, holes=not whole))
        rejected.append(make.row(prompt, holes=not whole))
    return PairCase(chosen, rejected, make.tables())


def labelled(seed: int) -> LabelCase:
    """Six answers, two of each kind at least. The mean log-ratio of the mismatched ones is below 0 in every second case."""
    make = Maker(200 + seed)
    rows = [make.row(make.prompt()) for _ in range(6)]
    labels = [True, True, False, False, bool(make.uniform(1) > 0.5), bool(make.uniform(1) > 0.5)]
    mismatched = [make.row(row.tokens[: row.prompt]) for row in rows]
    tables = make.tables()
    of = torch.tensor([token for row in mismatched for token in row.counted])
    tables.reference[of] = shifted(tables.policy[of], (-1) ** seed * -0.3 + 0.2 * make.normal(len(of)))
    return LabelCase(rows, labels, mismatched, tables)


def rows(seed: int) -> RowCase:
    make = Maker(300 + seed)
    made = [make.row(make.prompt()) for _ in range(6)]
    return RowCase(made, make.tables())


def rewards(seed: int, *, answers: int) -> RewardCase:
    """Four prompts; all pairs of a prompt, in a random order of preference."""
    make = Maker(400 + seed)
    prompts = []
    for _ in range(4):
        order = torch.randperm(answers, generator=make.generator).tolist()
        prompts.append([(a, b, float(make.uniform(1))) for a, b in itertools.combinations(order, 2)])
    return RewardCase(2 * make.normal(4 * answers), answers, prompts)
