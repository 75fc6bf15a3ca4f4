"""Online DPO (arXiv:2402.04792): each step pairs the policy's own fresh answers and learns from them once.

What GRPO's rounds prove is proven here too: enough answers have a score, the sampler wrote with the weights the trainer holds,
both give the same tokens the same log-probabilities, and the sampler took over the new weights. The reference is the model
the stage starts from. A round in which no task told its answers apart changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from posttrain.core.config import OnlineDpoConfig
from posttrain.core.protocols import Generator
from posttrain.core.types import Group, Pair, Rollout, floats
from posttrain.models.packing import Batch
from posttrain.training.dpo import Answer, Compared, Objective, mismatch, objective, row_sums, train_step, without_formatting
from posttrain.training.driver import Step
from posttrain.training.policy import Policy
from posttrain.training.rl_step import require_agreement
from posttrain.training.rounds import Collect, Learnt, is_scored, reward, rounds

Pairing = Callable[[Sequence[float]], Sequence[Pair]]
"""Scores of a task's answers -> which are better than which."""


def online_dpo(
    policy: Policy,
    generator: Generator,
    collect: Collect,
    pairing: Pairing,
    formatting: frozenset[int],
    config: OnlineDpoConfig,
    *,
    start: int,
    state: Mapping[str, float],
) -> AsyncIterator[Step]:
    """Yields a Step per round of sampling (see training/rounds.py), also where no pair was found and the weights stay as they
    are. `formatting` are tokens that are read but do not count in the loss."""
    aim = objective(config, temperature=config.temperature)

    def from_pairs(groups: Sequence[Group], state: Mapping[str, float], index: int) -> Learnt:
        elements = with_reference(policy, compared(groups, pairing, formatting, config), aim, config)
        metrics = learn(policy, elements, aim, config, index)
        return Learnt(metrics, shown={"pairs": metrics["pairs"]})

    return rounds(policy, generator, collect, from_pairs, config, start=start, state=state)


def compared(groups: Sequence[Group], pairing: Pairing, formatting: frozenset[int], config: OnlineDpoConfig) -> list[Compared]:
    """The groups whose answers differ in score, each with the answers that are compared. Unscored answers are in no pair."""
    found = []
    for group in groups:
        scored = [rollout for rollout in group.rollouts if is_scored(rollout) and len(rollout.rows) == 1]
        pairs = pairing([reward(rollout, config) for rollout in scored]) if len(scored) > 1 else ()
        used = sorted({side for pair in pairs for side in (pair.better, pair.worse)})
        where = {old: new for new, old in enumerate(used)}
        if pairs:
            answers = [without_formatting(answer_of(scored[i]), formatting) for i in used]
            found.append(Compared(answers, [replace(p, better=where[p.better], worse=where[p.worse]) for p in pairs]))
    return found


def answer_of(rollout: Rollout) -> Answer:
    """What the model saw and wrote, with the sampler's log-probs of what it wrote."""
    row = rollout.rows[0]
    return Answer(row.tokens, row.mask, floats(p for p, m in zip(row.logprobs, row.mask, strict=True) if m))


def with_reference(policy: Policy, elements: Sequence[Compared], aim: Objective, config: OnlineDpoConfig) -> list[Compared]:
    """The elements with the reference's log-probs; for KTO also with the answers of the next element, and theirs."""
    if not aim.method.reference:
        return list(elements)

    def reference(batch: Batch) -> Tensor:
        return policy.reference_logprobs(batch, temperature=aim.temperature)

    def sums(of: Sequence[Compared]) -> list[list[float]]:
        return row_sums(reference, of, config.micro_batch_tokens, policy.device)

    found = [replace(each, reference=values) for each, values in zip(elements, sums(elements), strict=True)]
    if aim.method.paired or len(found) < 2:
        return found
    others = [mismatch(each.answers, found[(n + 1) % len(found)].answers) for n, each in enumerate(found)]
    values = sums([Compared(answers, ()) for answers in others])
    return [
        replace(each, mismatched=answers, mismatched_reference=sums_of)
        for each, answers, sums_of in zip(found, others, values, strict=True)
    ]


def learn(policy: Policy, elements: Sequence[Compared], aim: Objective, config: OnlineDpoConfig, index: int) -> dict[str, float]:
    """One optimizer step on a round's pairs, if there are any; for KTO, if they are of two tasks at least."""
    began = time.perf_counter()
    if len(elements) < (1 if aim.method.paired else 2):
        return {"pairs": 0.0, "time/update": 0.0}

    def agreed(metrics: Mapping[str, float]) -> None:
        require_agreement(policy, metrics, config.mismatch_budget, index)

    metrics = train_step(policy, elements, aim, config, index, agreed)
    if "kl/answers" in metrics:
        metrics["kl/k1"] = metrics.pop("kl/answers")  # the answers are the policy's own, if only the best and the worst
    return {**metrics, "time/update": time.perf_counter() - began}
