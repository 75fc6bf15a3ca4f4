"""A chat model in this process: an engine and the renderer of its model, asked in messages and answering in text.

What is asked for together is written in one batch, as the engine does it. A question longer than the model's context is
Unanswered, as it would be behind an endpoint: it says nothing about the next question.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from posttrain.core.errors import Unanswered, UserError
from posttrain.core.protocols import Renderer
from posttrain.core.types import Completion, Message, Reply, Sampling, TokenChoice

Decode: TypeAlias = "Callable[[array[int]], str]"


class Engine(Protocol):
    """A Generator that can also name the likeliest tokens."""

    async def generate(self, prompt: array[int], sampling: Sampling, *, seed: int, top: int = 0) -> Completion: ...


class LocalChat:
    """A core.protocols.ChatModel. `decode` turns tokens into text without control tokens."""

    def __init__(self, engine: Engine, renderer: Renderer, decode: Decode) -> None:
        self.engine, self.renderer, self.decode = engine, renderer, decode

    async def reply(self, messages: Sequence[Message], sampling: Sampling, *, seed: int, top: int = 0) -> Reply:
        try:
            prompt = self.renderer.prompt(messages)
            completion = await self.engine.generate(prompt, sampling, seed=seed, top=top)
        except UserError as error:
            raise Unanswered(f"the model cannot be asked this: {error.message}") from error
        message = self.renderer.parse(completion.text)
        choices = token_choices(completion, self.decode)
        return Reply(message.content, completion.finish, len(completion.tokens), message.thinking, len(prompt), choices)


def token_choices(completion: Completion, decode: Decode) -> tuple[TokenChoice, ...]:
    """A completion's tokens with their alternatives, as text; empty where no alternatives were asked for."""
    return tuple(
        TokenChoice(text_of(token, decode), logprob, tuple((text_of(other, decode), value) for other, value in top))
        for token, logprob, top in zip(completion.tokens, completion.logprobs, completion.top, strict=False)
    )


def text_of(token: int, decode: Decode) -> str:
    return decode(array("i", [token]))
