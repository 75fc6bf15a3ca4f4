"""Measures of plain text that filters, monitors and diagnosis share. Standard library only."""

from __future__ import annotations

import re

PIECES = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|\w+|[^\w\s]")
LONGEST_WORD = 40


def pieces(text: str) -> list[str]:
    """Words, single CJK characters and punctuation marks. A "word" of over 40 characters is taken letter by letter, so that
    `aaaa…` counts as a repetition and not as one word."""
    found: list[str] = []
    for piece in PIECES.findall(text):
        found.extend(piece if len(piece) > LONGEST_WORD else (piece,))
    return found


def repeated_share(text: str, n: int = 4) -> float:
    """Share of n-grams of words that stood in the text before: 0 in a text without repetition, near 1 in a loop.

    Texts of fewer than n words give 0. High without being a fault in tables, lists and code.
    """
    words = pieces(text)
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
