"""PPO: what a token is worth is what came of it, compared with what the critic expected (arXiv:1707.06347, arXiv:2203.02155).

Rounds, packing and the policy's step are GRPO's (training/rounds.py, training/rl_step.py). Before the round's first update
the critic values every state; the token rewards, which carry the KL, become advantages and returns, over the whole round.
Then each minibatch moves both, and with PPO-ptx the likelihood of rows that are mixed in, by their own denominator.
Letters: L trained tokens, R rows.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from posttrain.algorithms.family import Method
from posttrain.algorithms.gae import gae
from posttrain.algorithms.rewards import token_rewards
from posttrain.algorithms.value import explained_variance, value_loss
from posttrain.algorithms.weights import REDUCTIONS
from posttrain.algorithms.whitening import whiten
from posttrain.core.config import PpoConfig
from posttrain.core.faults import fault
from posttrain.core.order import item_at
from posttrain.core.protocols import Generator
from posttrain.core.types import Group, floats
from posttrain.models.heads import pack_ends
from posttrain.models.packing import micro_batches
from posttrain.training.actor_critic import ActorCritic, Critic
from posttrain.training.driver import BrokenStep, Step
from posttrain.training.rl_step import Means, RlRow, Tally, accumulate, packed, passes, score_rows, spread, stepped
from posttrain.training.rounds import Collect, following, is_scored, rounds, scored_rows
from posttrain.training.sft import Encoded, Rows, imitate


@dataclass(frozen=True)
class Mixed:
    """Rows whose likelihood is raised beside the reward, in an order fixed by the seed."""

    rows: Rows
    count: int
    seed: int

    def of(self, version: int) -> list[Encoded]:
        """The rows of the optimizer step that follows `version` others."""
        places = range(version * self.count, (version + 1) * self.count)
        return [Encoded(*self.rows[item_at(place, len(self.rows), self.seed)]) for place in places]


def ppo(
    trained: ActorCritic,
    generator: Generator,
    collect: Collect,
    config: PpoConfig,
    mixed: Mixed | None = None,
    *,
    seed: int,
    start: int,
    state: Mapping[str, float],
) -> AsyncIterator[Step]:
    """Yields a Step per round of sampling (see training/rounds.py)."""

    def follow(groups: Sequence[Group], coefficient: float, index: int) -> tuple[list[RlRow], dict[str, float]]:
        rows = episodes(groups, config)
        metrics = score_rows(trained.policy, rows, config, coefficient)
        metrics |= estimate(trained.critic, rows, config, coefficient)
        return rows, metrics | update(trained, rows, config, coefficient, mixed, seed=seed, index=index)

    return rounds(trained.policy, generator, collect, following(follow, config), config, start=start, state=state)


def episodes(groups: Sequence[Group], config: PpoConfig) -> list[RlRow]:
    """Every row of every scored rollout; each is an episode that ends with the rollout's score."""
    scored = [(t, rollout) for t, group in enumerate(groups) for rollout in group.rollouts if is_scored(rollout)]
    return [row for t, rollout in scored for row in scored_rows(t, rollout, config) if row.trained]


def estimate(critic: Critic, rows: Sequence[RlRow], config: PpoConfig, coefficient: float) -> dict[str, float]:
    """Value every state and fill in advantages and returns, over the whole round. Needs `reference` where there is a KL."""
    if not rows:
        return {}
    began = time.perf_counter()
    after_R = value_states(critic, rows, config)
    lengths = [row.trained for row in rows]
    cut_off = [config.truncation == "bootstrap" and row.cut for row in rows]
    scores_R = torch.tensor([0.0 if cut else row.reward for cut, row in zip(cut_off, rows, strict=True)])
    values_L = joined(row.values for row in rows)
    in_reward = coefficient > 0 and config.kl.form == "k1_reward"
    kl_L = joined(row.sampled for row in rows) - joined(row.reference for row in rows) if in_reward else torch.zeros_like(values_L)
    rewards_L = token_rewards(scores_R, kl_L, lengths, coefficient)
    if config.whiten_rewards:
        rewards_L = whiten(rewards_L, shift_mean=False)
    advantages_L = gae(rewards_L, values_L, lengths, gamma=config.gamma, lam=config.gae_lambda, after_R=after_R)
    returns_L = advantages_L + values_L
    came_L = gae(rewards_L, values_L, lengths, gamma=config.gamma, lam=1.0, after_R=after_R) + values_L
    explained = explained_variance(values_L, came_L)
    metrics = {
        "value/mean": values_L.mean().item(),
        "return/mean": came_L.mean().item(),
        "advantage/mean": advantages_L.mean().item(),
        "advantage/std": advantages_L.std(unbiased=False).item(),
        **({} if explained is None else {"value/explained_variance": explained}),
    }
    if config.whiten_advantages:
        advantages_L = whiten(advantages_L)
    for row, advantages, returns in zip(rows, advantages_L.split(lengths), returns_L.split(lengths), strict=True):
        row.advantages, row.returns = advantages.tolist(), floats(returns.tolist())
    return metrics | {"time/value": time.perf_counter() - began}


def joined(streams: Iterable[array[float]]) -> Tensor:
    """One stream of all rows, one after the other."""
    return torch.tensor([value for stream in streams for value in stream])


@torch.no_grad()
def value_states(critic: Critic, rows: Sequence[RlRow], config: PpoConfig) -> Tensor:
    """Fill `values`; returns the value of the state after each row's last token, 0 where the episode has ended there."""
    for picked, batch in packed(rows, config.micro_batch_tokens, critic.body.device):
        spread(picked, batch, "values", critic.values(batch))
    after_R = torch.zeros(len(rows))
    going_on = [i for i, row in enumerate(rows) if row.cut] if config.truncation == "bootstrap" else []
    for chosen in micro_batches([[len(rows[i].row.tokens)] for i in going_on], config.micro_batch_tokens):
        places = [going_on[g] for g, _ in chosen]
        ends = pack_ends([rows[i].row.tokens for i in places], device=critic.body.device)
        after_R[places] = critic.values(ends).cpu()
    return after_R


def update(
    trained: ActorCritic,
    rows: Sequence[RlRow],
    config: PpoConfig,
    coefficient: float,
    mixed: Mixed | None = None,
    *,
    seed: int,
    index: int,
) -> dict[str, float]:
    """`epochs` × `minibatches` optimizer steps of both. Metrics are of all of them. Raises BrokenStep."""
    began, tally, fit = time.perf_counter(), Tally(), Means()
    method = Method("gae", "clipped", "token_mean", config.clip_low, config.clip_high)
    metrics: dict[str, float] = {}
    imitated: list[float] = []
    for first, chosen in passes(rows, config, seed, index):
        loss = accumulate(trained.policy, chosen, config, method, coefficient, tally, first, index)
        accumulate_values(trained.critic, chosen, config, fit, index)
        if mixed is not None:
            part = imitate(
                trained.policy, mixed.of(trained.version), config.micro_batch_tokens, index, coefficient=config.ptx_coefficient
            )
            imitated.append(part["loss"])
        metrics |= stepped(trained.step, chosen, loss, index)
    if imitated:
        metrics["loss/ptx"] = sum(imitated) / len(imitated)
    found = tally.metrics() | fit.result({"loss": "loss/value", "clipped": "clip/value"})
    return {**metrics, **found, "time/update": time.perf_counter() - began}


def accumulate_values(critic: Critic, rows: Sequence[RlRow], config: PpoConfig, fit: Means, index: int) -> None:
    """Gradients of the value loss, a mean over all trained tokens of `rows`."""
    weights = REDUCTIONS["token_mean"]([row.trained for row in rows], config.max_tokens)
    for _, batch in packed(rows, config.micro_batch_tokens, critic.body.device, ("values", "returns"), weights):
        s = batch.streams
        terms = value_loss(critic.values(batch), s["values"], s["returns"], config.value_clip)
        loss = (s["weight"] * terms.loss_L).sum()
        if fault("step:value"):
            loss = loss * math.nan
        if not math.isfinite(loss.item()):
            critic.optimizer.zero_grad()
            raise BrokenStep(index, {"loss/value": loss.item()}, batch=batch)
        loss.backward()
        fit.add(len(batch), loss=terms.loss_L, clipped=terms.clipped_L)
