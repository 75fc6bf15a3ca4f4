"""Several judges asked the same, and what they say together.

A panel of small judges from different families agrees better with people than one large judge (arXiv:2404.18796). A judge that did
not answer is left out; where fewer than the quorum are left there is no verdict, which is not a verdict of 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from posttrain.core.config import JudgeGrader
from posttrain.core.errors import Unanswered, UserError
from posttrain.core.protocols import ChatModel
from posttrain.core.seeds import derive
from posttrain.core.types import Message, Sampling
from posttrain.graders.judge.verdict import Unreadable, read_verdict

TOP = 20
"""Alternatives asked for; the most that OpenAI's API allows."""


@dataclass(frozen=True)
class Panel:
    """The judges of one grader. `round` is raised to ask the same again with another seed."""

    config: JudgeGrader
    models: tuple[ChatModel, ...]
    round: int = 0

    def again(self) -> Panel:
        return replace(self, round=self.round + 1)

    async def ask(self, messages: Sequence[Message], options: tuple[str, str]) -> list[float | Exception]:
        """Each judge's probability of the first option, or why it gave none."""
        return await asyncio.gather(*(self._one(model, messages, options) for model in self.models))

    async def _one(self, model: ChatModel, messages: Sequence[Message], options: tuple[str, str]) -> float | Exception:
        config = self.config
        sampling = Sampling(config.temperature, config.max_tokens)
        top = TOP if config.probabilities else 0
        try:
            reply = await model.reply(messages, sampling, seed=derive(0, "judge", self.round), top=top)
            return read_verdict(reply, options, reasoning=config.reasoning, probabilities=config.probabilities)
        except (Unanswered, Unreadable, UserError) as error:
            return error


def panel_of(config: JudgeGrader, models: Mapping[str, ChatModel]) -> Panel:
    """The panel that settings describe. `models` are given by name: nothing is loaded here."""
    for each in config.models:
        if each.name not in models:
            raise UserError(f"the judge {each.name} was not given to its grader.", fix="Use it in a recipe's stage.")
    return Panel(config, tuple(models[each.name] for each in config.models))


def answered(config: JudgeGrader, found: Sequence[float | Exception]) -> list[float]:
    """What the judges said that answered. Raises the reason of one that did not, where too few are left."""
    said = [each for each in found if not isinstance(each, Exception)]
    if len(said) < (config.quorum or len(config.models)):
        raise next(each for each in found if isinstance(each, Exception))
    return said


def together(config: JudgeGrader, said: Sequence[float]) -> float:
    """The panel's value between 0 and 1. Majority: 1 or 0 where more than half are on one side, else 0.5."""
    if config.combine == "mean":
        return fmean(said)
    up, down = sum(value > 0.5 for value in said), sum(value < 0.5 for value in said)
    return 1.0 if 2 * up > len(said) else 0.0 if 2 * down > len(said) else 0.5
