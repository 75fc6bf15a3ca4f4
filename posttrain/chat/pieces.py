"""A conversation as pieces: the one form every layout gives, so that the loss mask is known and never searched for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from posttrain.core.types import Message

Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text that is encoded as a whole. `markup` text may hold control tokens; `learnt` text was written by the
    model itself."""

    text: str
    markup: bool = False
    learnt: bool = False


class Layout(Protocol):
    """How one family of models writes a conversation."""

    @property
    def end_of_turn(self) -> int:
        """The token that ends an answer."""

    def pieces(self, messages: Sequence[Message], tools: Tools, context: int) -> list[Piece]:
        """A whole conversation. Assistant turns from message `context` on are learnt, end-of-turn token included."""

    def prompt(self, messages: Sequence[Message], tools: Tools) -> list[Piece]:
        """A conversation up to and including the header that makes the assistant speak."""

    def parse(self, text: str) -> Message:
        """The assistant's message that a completion's text stands for."""
