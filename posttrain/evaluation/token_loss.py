"""The loss on held-out documents before and after, with what chance alone would explain.

Loss is per token: all documents' losses over all their tokens, in nats. Tokens of one document are not independent, so the
interval resamples whole documents, and each with both its losses (a paired bootstrap of a ratio): what differs between
documents, which is far more than what training changes, cancels. Assumes that the documents were drawn independently. Fails
with few documents, where the interval is too narrow: 16 are few, 5 are none.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.core.statistics import RESAMPLES, percentiles

Loss = tuple[float, int]
"""(sum of a document's negative log-likelihoods, its tokens)."""


@dataclass(frozen=True, slots=True)
class LossChange:
    """Loss per token before and after, their difference with its limits, the documents it rests on and how many got better."""

    before: float
    after: float
    difference: float
    low: float
    high: float
    documents: int
    tokens: int
    better: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __str__(self) -> str:
        sign = f"{self.difference:+.3f}, 95 % {self.low:+.3f} to {self.high:+.3f}"
        return f"{self.before:.3f} -> {self.after:.3f} ({sign}; {self.documents} documents, {self.better} better)"


def change(
    before: Sequence[Loss], after: Sequence[Loss], *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> LossChange:
    """Compare the losses of the same documents, in the same order. ValueError if they are not the same."""
    if not before or [tokens for _, tokens in before] != [tokens for _, tokens in after]:
        raise ValueError("the losses before and after are not of the same documents")
    pairs = [(new - old, tokens) for (old, tokens), (new, _) in zip(before, after, strict=True)]
    total = sum(tokens for _, tokens in before)
    draw = random.Random(seed)
    ratios = []
    for _ in range(resamples):
        sample = draw.choices(pairs, k=len(pairs))
        ratios.append(sum(moved for moved, _ in sample) / sum(tokens for _, tokens in sample))
    low, high = percentiles(sorted(ratios), confidence)
    was, is_now = (sum(loss for loss, _ in losses) / total for losses in (before, after))
    return LossChange(was, is_now, is_now - was, low, high, len(pairs), total, sum(moved < 0 for moved, _ in pairs))
