"""Text <-> tokens, with a wall between what a template writes and what people and models write.

`plain` never gives a control token: `<|im_end|>` typed by a user stays the letters it is made of. `markup` does, and is
only for text that a template wrote. Both work on copies of the fast tokenizer, so no call depends on the state of another.

Assumes that pieces can be encoded apart and put together again, which byte-level tokenizers do; one that puts a space
before every text (SentencePiece's dummy prefix) is refused.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from posttrain.core.errors import UserError


class Codec:
    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UserError(
                f"tokenizer {type(tokenizer).__name__} has no fast backend; expected one with a tokenizer.json.",
                fix="Save it with a fast tokenizer first.",
            )
        self.name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        added: dict[int, Any] = tokenizer.added_tokens_decoder
        self.controls: dict[str, int] = {t.content: i for i, t in added.items() if t.special or i in tokenizer.all_special_ids}
        self._control_ids = frozenset(self.controls.values())
        self._plain = _copy(backend, encode_special_tokens=True)
        self._markup = _copy(backend, encode_special_tokens=False)
        self.begin: tuple[int, ...] = tuple(backend.encode("", add_special_tokens=True).ids)
        self.end: int | None = tokenizer.eos_token_id
        pad = tokenizer.pad_token_id
        self.pad: int = pad if pad is not None else (self.end or 0)
        # Headers and system prompts come again with every row.
        self._cached = lru_cache(maxsize=2048)(self._encode_plain)
        if self.decode(self.plain("a") + self.plain("a")) != "aa":
            raise UserError(
                f"tokenizer of {self.name} changes a text when it is encoded in pieces (it adds a space in front).",
                fix="Use a model with a byte-level tokenizer.",
            )

    def plain(self, text: str) -> list[int]:
        """Tokens of text that people or models wrote; never a control token."""
        return list(self._cached(text)) if len(text) <= 256 else self._encode_plain(text)

    def markup(self, text: str) -> list[int]:
        """Tokens of text that a template wrote: control tokens are recognised."""
        if text in self.controls:
            return [self.controls[text]]
        ids: list[int] = self._markup.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Sequence[int] | array[int]) -> str:
        """Text without control tokens."""
        text: str = self._plain.decode(list(tokens), skip_special_tokens=True)
        return text

    def show(self, tokens: Sequence[int] | array[int]) -> str:
        """Text with control tokens written out, for people."""
        text: str = self._plain.decode(list(tokens), skip_special_tokens=False)
        return text

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        if self._control_ids.isdisjoint(ids):
            return ids
        # A tokenizer whose model itself knows the literal as one word: break the word, then each character if need be.
        half = len(text) // 2
        if half == 0:
            raise UserError(f"tokenizer of {self.name} has no plain tokens for {text!r}.", fix="Use another tokenizer.")
        return self._encode_plain(text[:half]) + self._encode_plain(text[half:])


def _copy(backend: Any, *, encode_special_tokens: bool) -> Any:
    copy = type(backend).from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = encode_special_tokens
    return copy
