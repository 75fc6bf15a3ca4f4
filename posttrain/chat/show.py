"""One rendered example for people: what is learnt in colour, the rest dim."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import groupby

from posttrain.chat.render import ChatRenderer

LEARNT, READ = "bold green", "dim"


def preview(tokens: Sequence[int] | array[int], mask: Sequence[int] | array[int], renderer: ChatRenderer) -> str:
    """Rich markup. Text is hostile input: its brackets are escaped and its control characters written out."""
    from rich.markup import escape

    pieces = []
    for learnt, run in groupby(zip(tokens, mask, strict=True), key=lambda pair: bool(pair[1])):
        text = _visible(renderer.show([token for token, _ in run]))
        style = LEARNT if learnt else READ
        pieces.append(f"[{style}]{escape(text)}[/{style}]")
    return "".join(pieces)


def _visible(text: str) -> str:
    """Terminal escapes and other controls as \\x1b: only line breaks and tabs pass. Bidirectional overrides count too."""
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)
