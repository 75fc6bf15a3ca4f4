"""Reward models as graders use them: checked when the stage begins, then asked for conversations, which are scored in batches.

Conversations are collected until they fill a forward, or until no more have come for a while. That while is counted in turns
of the event loop, which the sampler takes in step with its own work, and not in seconds: so the same run makes the same
batches, and the same rewards to the last bit.
"""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from posttrain import chat
from posttrain.core.config import GraderConfig, RewardModelGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Message
from posttrain.models.reward_model import RewardModel, load_reward_model
from posttrain.models.tokenizers import differs

BUDGET = 4096
"""Tokens of one forward."""
QUIET = 64
"""Turns of the event loop without a new conversation after which what is there is scored."""

Waiting = tuple["array[int]", "asyncio.Future[list[float]]"]


class BatchedRewards:
    """A RewardScorer over a model in this process."""

    def __init__(self, reward: RewardModel, name: str) -> None:
        self.reward, self.name = reward, name
        self._renderer = chat.renderer(reward.tokenizer)
        self._waiting: list[Waiting] = []
        self._pump: asyncio.Task[None] | None = None

    async def rewards(self, messages: Sequence[Message], *, normalise: bool) -> list[float]:
        tokens, _ = self._renderer.conversation(messages, context=len(messages) - 1)
        if len(tokens) > self.reward.context:
            raise UserError(f"the conversation has {len(tokens)} tokens; the reward model's context is {self.reward.context}.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[float]] = loop.create_future()
        self._waiting.append((tokens, future))
        if self._pump is None or self._pump.done():
            self._pump = loop.create_task(self._run(), name=f"rewards of {self.name}")
            self._pump.add_done_callback(lambda pump: pump.cancelled() or pump.exception())  # every caller has it already
        found = await future
        if not normalise:
            return found
        return [(r - mean) / std for r, mean, std in zip(found, self.reward.mean, self.reward.std, strict=True)]

    async def _run(self) -> None:
        """Score until nothing waits. What goes wrong goes to every caller that waits."""
        try:
            while self._waiting:
                await self._gather()
                batch = [each for each in self._waiting if not each[1].done()]  # without those whose caller has gone
                found = self.reward.score([tokens for tokens, _ in batch], budget=BUDGET).tolist()
                self._waiting = []
                for (_, future), rewards in zip(batch, found, strict=True):
                    future.set_result(rewards)
        except BaseException as error:
            failed, self._waiting = self._waiting, []
            for _, future in failed:
                if not future.done():
                    future.set_exception(error) if isinstance(error, Exception) else future.cancel()
            raise

    async def _gather(self) -> None:
        seen, quiet = len(self._waiting), 0
        while quiet < QUIET and sum(len(tokens) for tokens, _ in self._waiting) < BUDGET:
            await asyncio.sleep(0)
            quiet, seen = (quiet + 1 if len(self._waiting) == seen else 0), len(self._waiting)


def scorers_of(configs: Sequence[GraderConfig], references: Mapping[str, str], tokenizer: Any = None) -> dict[str, BatchedRewards]:
    """The reward models that graders name, loaded once each and tried. `tokenizer` is that of the model they will judge.
    Raises UserError for one that is dead, was made for another tokenizer, or lacks what a grader asks for."""
    found: dict[str, BatchedRewards] = {}
    for config in configs:
        if not isinstance(config, RewardModelGrader):
            continue
        if config.model not in found:
            reward = load_reward_model(references.get(config.model, config.model))
            require_tokenizer(reward, tokenizer, config.model)
            require_alive(reward, config.model)
            found[config.model] = BatchedRewards(reward, config.model)
        if config.normalise:
            require_scale(found[config.model].reward, config.model)
    return found


def require_tokenizer(reward: RewardModel, tokenizer: Any, name: str) -> None:
    """A reward model of another tokenizer was trained on another model's kind of answers; it is nearly always the wrong one."""
    if tokenizer is not None and (difference := differs(tokenizer, reward.tokenizer)):
        raise UserError(
            f"the reward model {name} has another tokenizer than the model it would judge: {difference}.",
            fix="Train a reward model from a model of the same family.",
        )


def require_alive(reward: RewardModel, name: str) -> None:
    """Two different conversations get two finite scores that differ, from each member."""
    renderer = chat.renderer(reward.tokenizer)
    rows = [
        renderer.conversation([Message("user", "What is 2 + 3?"), Message("assistant", answer)])[0]
        for answer in ("5", "I do not know, and I would rather not say.")
    ]
    scores = reward.score(rows, budget=BUDGET)
    if not torch.isfinite(scores).all():
        raise UserError(f"the reward model {name} is broken: it scores {scores[0].tolist()}.", fix="Train it again.")
    if torch.equal(scores[0], scores[1]):
        raise UserError(f"the reward model {name} is dead: it gives different answers the same score.", fix="Train it again.")


def require_scale(reward: RewardModel, name: str) -> None:
    if len(reward.mean) != reward.size or not all(math.isfinite(std) and std > 0 for std in reward.std):
        raise UserError(
            f"the reward model {name} has no mean and standard deviation of its own to normalise by.",
            fix="Set normalise: false on the grader.",
        )
