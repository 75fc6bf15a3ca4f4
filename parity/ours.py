"""Our side: the loops of posttrain.training on a policy whose log-probabilities stand in a table.

Advantages, weights, micro-batches and packing are the loops' own; only the model and the optimizer step are stood in for. The
budget of a micro-batch is small, so that one batch is cut into several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import stdev
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from parity.cases import LONGEST, LabelCase, Outcome, PairCase, RewardCase, RolloutCase, Row, RowCase
from posttrain.algorithms.advantages import EPSILON
from posttrain.core.config import (
    DataSource,
    DpoConfig,
    GrpoConfig,
    KlConfig,
    MathGrader,
    PreferenceSource,
    RewardModelConfig,
    SftConfig,
    TaskSource,
)
from posttrain.core.types import Grade, Group, Message, Pair, Rollout, Sampling, Task, TokenRow, floats, ints
from posttrain.models.forward import Scored
from posttrain.models.packing import Batch
from posttrain.training import dpo, reward_model, sft
from posttrain.training.grpo import method_of, training_rows
from posttrain.training.policy import Policy
from posttrain.training.reward_model import TrainedReward
from posttrain.training.rl_step import RlRow, Tally, accumulate, add_scores

BUDGET = 48
"""Tokens of a micro-batch."""
TRL_EPSILON = 1e-4
"""What TRL adds to the standard deviation of a group's rewards, where we add EPSILON."""


@dataclass(frozen=True)
class RlSettings:
    """A member of the family and how far its samples are from the policy. `changes` of the method are for the controls."""

    algorithm: str
    epochs: int = 1
    kl: float = 0.0
    kl_form: str = "k3_loss"
    changes: Mapping[str, Any] = field(default_factory=dict)


class TablePolicy:
    """What the loops ask of a Policy. `table` is what it now says of each token, `reference` what the stage began with."""

    device = torch.device("cpu")

    def __init__(self, table: Tensor, reference: Tensor) -> None:
        self.table, self.reference = table, reference

    def score(self, batch: Batch, *, temperature: float = 1.0) -> Scored:
        assert temperature == 1
        return Scored(self.table[batch.target_L], torch.zeros(len(batch)))

    def reference_logprobs(self, batch: Batch, *, temperature: float = 1.0) -> Tensor:
        assert temperature == 1
        return self.reference[batch.target_L]

    def step(self) -> dict[str, float]:
        """Leaves the gradients where they are."""
        return {}

    def as_policy(self) -> Policy:
        return cast(Policy, self)


def leaf(values: Tensor) -> Tensor:
    return values.clone().requires_grad_()


def outcome(loss: float, of: Tensor) -> Outcome:
    assert of.grad is not None
    return Outcome(loss, of.grad)


# ------------------------------------------------------------------------------------------------ GRPO's family


def rl(case: RolloutCase, settings: RlSettings, *, factor: float = 1.0) -> Outcome:
    """As a round of the loop from graded samples on; loss and gradient times `factor`."""
    config = GrpoConfig(
        tasks=(TaskSource(source="builtin:arithmetic"),),
        graders=(MathGrader(),),
        algorithm=settings.algorithm,  # type: ignore[arg-type]
        epochs=settings.epochs,
        kl=KlConfig(coefficient=settings.kl, form=settings.kl_form),  # type: ignore[arg-type]
        max_tokens=LONGEST,
        micro_batch_tokens=BUDGET,
    )
    method = replace(method_of(config), **settings.changes)
    rows = training_rows(groups_of(case), config, method)
    if method.advantage == "group_normalised":
        as_trl_divides(rows, case.rewards)
    stand_in = TablePolicy(case.tables.old, case.tables.reference)
    policy = stand_in.as_policy()
    add_scores(policy, rows, config, method, settings.kl)
    stand_in.table = leaf(case.tables.policy)
    loss = accumulate(policy, rows, config, method, settings.kl, Tally(), first=False, index=0)
    found = outcome(loss, stand_in.table)
    return Outcome(factor * found.loss, factor * found.gradient)


def rl_summed(case: RolloutCase, settings: RlSettings) -> Outcome:
    """The gradient as it is; the value with each answer's ratio counted once, as TRL's, which has one ratio an answer."""
    mean = replace(settings, changes={**settings.changes, "reduction": "sequence_mean"})
    return Outcome(rl(case, mean).loss, rl(case, settings).gradient)


def rl_value_and_gradient(case: RolloutCase, value: RlSettings, gradient: RlSettings) -> Outcome:
    return Outcome(rl(case, value).loss, rl(case, gradient).gradient)


def groups_of(case: RolloutCase) -> list[Group]:
    groups = []
    for number, (rows, rewards) in enumerate(zip(case.groups, case.rewards, strict=True)):
        messages = (Message("user", "q"),)
        task = Task(str(number), messages)
        rollouts = tuple(
            Rollout(task, sample, messages, (token_row(row, case.tables.sampled),), Sampling(), grade=grade(reward))
            for sample, (row, reward) in enumerate(zip(rows, rewards, strict=True))
        )
        groups.append(Group(task, rollouts))
    return groups


def grade(reward: float) -> Grade:
    return Grade.unscored("no answer") if math.isnan(reward) else Grade(reward)


def token_row(row: Row, sampled_N: Tensor) -> TokenRow:
    logprobs = [float(sampled_N[token]) if m else 0.0 for token, m in zip(row.tokens, row.mask, strict=True)]
    return TokenRow(ints(row.tokens), ints(row.mask), floats(logprobs), ints(0 if m else -1 for m in row.mask))


def as_trl_divides(rows: Sequence[RlRow], rewards: Sequence[Sequence[float]]) -> None:
    """The one difference between the advantages: (s + EPSILON) / (s + TRL_EPSILON), s the group's standard deviation."""
    for row in rows:
        spread = stdev(reward for reward in rewards[row.group] if not math.isnan(reward))
        factor = (spread + EPSILON) / (spread + TRL_EPSILON)
        row.advantages = [factor * advantage for advantage in row.advantages]


# ------------------------------------------------------------------------------------------------ preferences


def preferred(case: PairCase, *, probability: float = 1.0, **settings: Any) -> Outcome:
    """Settings are DpoConfig's: loss, beta, nll, ..."""
    elements = [
        dpo.Compared([answer(chosen), answer(rejected)], [Pair(0, 1, probability)])
        for chosen, rejected in zip(case.chosen, case.rejected, strict=True)
    ]
    return compared(elements, case, **settings)


def judged(case: LabelCase, **settings: Any) -> Outcome:
    elements = [
        dpo.Compared([answer(row)], [], labels=[label], mismatched=[answer(other)])
        for row, label, other in zip(case.rows, case.labels, case.mismatched, strict=True)
    ]
    return compared(elements, case, loss="kto", **settings)


def answer(row: Row) -> dpo.Answer:
    return dpo.Answer(row.tokens, row.mask)


def compared(elements: Sequence[dpo.Compared], case: PairCase | LabelCase, **settings: Any) -> Outcome:
    config = DpoConfig(data=(PreferenceSource(source="./pairs.jsonl"),), micro_batch_tokens=BUDGET, **settings)
    aim = dpo.objective(config)
    stand_in = TablePolicy(leaf(case.tables.policy), case.tables.reference)
    policy = stand_in.as_policy()
    if aim.method.reference:
        elements = with_reference(elements, policy)
    return outcome(dpo.train_step(policy, elements, aim, config, 0)["loss"], stand_in.table)


def with_reference(elements: Sequence[dpo.Compared], policy: Policy) -> list[dpo.Compared]:
    others = [replace(element, answers=element.mismatched) for element in elements]
    of_own = dpo.row_sums(policy.reference_logprobs, elements, BUDGET, policy.device)
    of_others = dpo.row_sums(policy.reference_logprobs, others, BUDGET, policy.device) if others[0].answers else [[]] * len(others)
    return [
        replace(element, reference=own, mismatched_reference=other)
        for element, own, other in zip(elements, of_own, of_others, strict=True)
    ]


# ------------------------------------------------------------------------------------------------ SFT and reward models


def imitated(case: RowCase) -> Outcome:
    config = SftConfig(data=(DataSource(source="./rows.jsonl"),), micro_batch_tokens=BUDGET)
    stand_in = TablePolicy(leaf(case.tables.policy), case.tables.reference)
    rows = [sft.Encoded(row.tokens, row.mask) for row in case.rows]
    return outcome(sft.train_step(stand_in.as_policy(), rows, config, 0)["loss"], stand_in.table)


@dataclass(frozen=True)
class Encoded:
    """Answers of one prompt; the one token of each is the place of its reward."""

    rows: list[Any]
    masks: list[Any]
    pairs: list[Pair]


def rewarded(case: RewardCase, *, margin: float = 1.0, centring: float = 0.0) -> Outcome:
    """The budget holds less than the batch's rows, which are a token each here."""
    config = RewardModelConfig(
        data=(PreferenceSource(source="./pairs.jsonl"),), margin=margin, centring=centring, micro_batch_tokens=case.answers + 1
    )
    table = leaf(case.rewards)
    elements = []
    for prompt, pairs in enumerate(case.pairs):
        rows = [ints([prompt * case.answers + i]) for i in range(case.answers)]
        elements.append(Encoded(rows, [ints([0])] * len(rows), [Pair(a, b, margin=m) for a, b, m in pairs]))
    trained = SimpleNamespace(reward=SimpleNamespace(members=[TableMember(table)]), step=dict)
    return outcome(reward_model.train_step(cast(TrainedReward, trained), elements, config, 0)["loss"], table)


class TableMember:
    """What the loop asks of a member of a reward model."""

    model = SimpleNamespace(device=torch.device("cpu"))

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def __call__(self, rows: Sequence[Sequence[int]]) -> Tensor:
        return self.table[torch.tensor([row[0] for row in rows])][:, None]
