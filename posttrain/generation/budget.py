"""What may be spent on a chat model: requests and tokens. Beyond it every question is Unanswered, so the run pauses.

Counted are requests under way and answered, and the tokens of question and answer where the server says how many. Answers from
the cache cost nothing. Tokens are known only afterwards, so the questions under way at once may pass that limit.
"""

from __future__ import annotations

from collections.abc import Sequence

from posttrain.core.errors import Unanswered
from posttrain.core.protocols import ChatModel
from posttrain.core.types import Message, Reply, Sampling


class Budgeted:
    """A ChatModel that asks `model` while the budget lasts. `spent` is what earlier runs of the stage took."""

    def __init__(
        self, model: ChatModel, *, requests: int | None = None, tokens: int | None = None, spent: tuple[int, int] = (0, 0)
    ) -> None:
        self.model, self.most_requests, self.most_tokens = model, requests, tokens
        self.requests, self.tokens = spent

    async def reply(self, messages: Sequence[Message], sampling: Sampling, *, seed: int, top: int = 0) -> Reply:
        self._require()
        self.requests += 1  # before it is answered: those under way count
        try:
            found = await self.model.reply(messages, sampling, seed=seed, top=top)
        except BaseException:
            self.requests -= 1
            raise
        self.tokens += (found.tokens or 0) + (found.prompt_tokens or 0)
        return found

    def _require(self) -> None:
        for name, spent, most in (("requests", self.requests, self.most_requests), ("tokens", self.tokens, self.most_tokens)):
            if most is not None and spent >= most:
                raise Unanswered(f"the judge's budget of {most} {name} is spent; raise its limit to go on")
