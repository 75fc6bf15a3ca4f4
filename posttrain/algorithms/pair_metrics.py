"""How good a reward model is, from the differences of its rewards on pairs it was not trained on. No torch needed.

`difference` is r_better - r_worse, `label` the probability that the label's better one is better. A model that orders well
may still be over-confident (calibration), or order by length alone (correlation and balanced accuracy), and all of that
reaches the policy that it rewards. Fails on few pairs: ten bins need some hundred pairs to say anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

BINS = 10


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def ordered(difference: float, label: float = 1.0) -> bool | None:
    """Whether the pair is put in the label's order; a tie is not. None where the label itself favours neither."""
    if label == 0.5:
        return None
    return difference > 0 if label > 0.5 else difference < 0


def brier(differences: Sequence[float], labels: Sequence[float]) -> float:
    """Mean squared error of the pairs' probabilities (Brier 1950): 0 is perfect, 0.25 is saying one half always."""
    return fmean((sigmoid(d) - q) ** 2 for d, q in zip(differences, labels, strict=True))


def reliability(differences: Sequence[float], labels: Sequence[float], bins: int = BINS) -> list[dict[str, float]]:
    """Pairs by how sure the model is, from 1/2 to 1: mean confidence, share in the label's order, and how many."""
    found: dict[int, list[tuple[float, float]]] = {}
    for difference, label in zip(differences, labels, strict=True):
        confidence = sigmoid(abs(difference))
        place = min(bins - 1, int((confidence - 0.5) * 2 * bins))
        found.setdefault(place, []).append((confidence, label if difference > 0 else 1 - label if difference < 0 else 0.5))
    return [
        {"confidence": fmean(c for c, _ in pairs), "accuracy": fmean(a for _, a in pairs), "n": len(pairs)}
        for _, pairs in sorted(found.items())
    ]


def calibration_error(bins: Sequence[dict[str, float]]) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy, bins counted by their pairs."""
    total = sum(each["n"] for each in bins)
    return sum(each["n"] * abs(each["confidence"] - each["accuracy"]) for each in bins) / total if total else math.nan


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's; None where one of them does not vary."""
    if len(x) < 2:
        return None
    a, b = fmean(x), fmean(y)
    covariance = sum((p - a) * (q - b) for p, q in zip(x, y, strict=True))
    spread = math.sqrt(sum((p - a) ** 2 for p in x) * sum((q - b) ** 2 for q in y))
    return covariance / spread if spread > 0 else None


def centred(values_by_prompt: Sequence[Sequence[float]]) -> list[float]:
    """Values less their prompt's mean: what is left is what a policy can move by choosing among answers."""
    return [value - fmean(values) for values in values_by_prompt if values for value in values]


def length_balanced(right: Sequence[bool], length_differences: Sequence[int]) -> float | None:
    """Mean of the accuracy on pairs whose better answer is longer and on pairs where it is shorter: one half for a model
    that only looks at length, whatever the labels favour. None where one kind is missing."""
    longer = [r for r, d in zip(right, length_differences, strict=True) if d > 0]
    shorter = [r for r, d in zip(right, length_differences, strict=True) if d < 0]
    return (fmean(longer) + fmean(shorter)) / 2 if longer and shorter else None
