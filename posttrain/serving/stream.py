"""The text of a completion while it is being written: what may be shown already, and what must wait.

Two things wait: bytes that are not yet a whole character (a tokenizer shows them as U+FFFD), and text that may turn out to be the
beginning of a stop string. Only the tokens since the last settled place are decoded again, with those just before it, because
some tokenizers write a token differently at the start of a text (the scheme of vLLM's incremental detokenizer).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

BROKEN = "�"


class TextStream:
    """Give it tokens; it gives back text that is final."""

    def __init__(self, decode: Callable[[array[int]], str], stop: tuple[str, ...]) -> None:
        self._decode, self._stop = decode, stop
        self._tokens: array[int] = array("i")
        self._start = self._settled = 0
        self._held = ""
        self.shown = ""

    def push(self, token: int) -> str:
        """New text that can no longer change."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._start : self._settled])
        after = self._decode(self._tokens[self._start :])
        if after.endswith(BROKEN) or len(after) <= len(before):
            return ""
        self._start, self._settled = self._settled, len(self._tokens)
        self._held += after[len(before) :]
        return self._release(len(self._held) - waiting(self._held, self._stop))

    def finish(self, whole: str) -> str:
        """The rest, once the whole text is known; it is cut before a stop string already."""
        self._held = whole.removeprefix(self.shown) if whole.startswith(self.shown) else ""
        return self._release(len(self._held))

    def _release(self, count: int) -> str:
        text, self._held = self._held[:count], self._held[count:]
        self.shown += text
        return text


def waiting(text: str, stop: tuple[str, ...]) -> int:
    """How many of the last characters may belong to a stop string: all from one that is there, or a beginning of one at the end."""
    found = [len(text) - place for place in (text.find(each) for each in stop) if place >= 0]
    begun = [size for each in stop for size in range(1, len(each)) if text.endswith(each[:size])]
    return max([0, *found, *begun])
