"""The reward of the rounds: it means nothing, costs nothing, and hardly ever ties, so that every sample carries an advantage."""

from __future__ import annotations


def vowels(text: str) -> float:
    """The share of vowels among the letters and all else."""
    return sum(letter in "aeiou" for letter in text) / max(1, len(text))
