"""Paired log-ratios over blocks, with a bootstrap interval and the exact signed-rank test as a check.

One block gives one number, d = mean over its runs of log(peer's seconds a unit) - mean of log(ours): what drifts within a
block cancels, what drifts between blocks never enters. The ratio is exp(mean d). Runs are never dropped. The interval is the
percentile bootstrap's (Efron 1979) over blocks; with five blocks it is a little too narrow, so the A/A lane says how far
two equal programs lie apart in the same session.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 10_000
MOST_FOR_EXACT = 15


@dataclass(frozen=True)
class Ratio:
    """How many times as much as ours the peer needs: above 1, we are ahead. `p` is two-sided, of the signed-rank test."""

    value: float
    low: float
    high: float
    median: float
    blocks: int
    p: float | None


def log_ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    """One block: costs of our runs and of the peer's (seconds a unit, or bytes)."""
    return statistics.fmean(map(math.log, peer)) - statistics.fmean(map(math.log, ours))


def bootstrap(values: Sequence[float], *, share: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The interval of the mean."""
    draw = random.Random(seed)
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    tail = (1 - share) / 2
    return means[int(tail * RESAMPLES)], means[min(RESAMPLES - 1, int((1 - tail) * RESAMPLES))]


def signed_rank(values: Sequence[float]) -> float | None:
    """Wilcoxon's signed-rank test (1945) that the values lie around 0: exact, two-sided, ties sharing their ranks. None where
    there are too many to go through all signs, or none that differs from 0."""
    found = [value for value in values if value]
    if not found or len(found) > MOST_FOR_EXACT:
        return None
    sizes = sorted(abs(value) for value in found)
    rank = {size: statistics.fmean(i + 1 for i, other in enumerate(sizes) if other == size) for size in sizes}
    ranks = [rank[abs(value)] for value in found]
    half = sum(ranks) / 2
    seen = abs(sum(r for r, value in zip(ranks, found, strict=True) if value > 0) - half)
    signs = itertools.product((0, 1), repeat=len(ranks))
    extreme = sum(abs(sum(r for r, up in zip(ranks, each, strict=True) if up) - half) >= seen - 1e-9 for each in signs)
    return float(extreme / 2 ** len(ranks))


def ratio(differences: Sequence[float]) -> Ratio:
    """Of the blocks' log-ratios."""
    low, high = bootstrap(differences)
    middle = statistics.median(differences)
    return Ratio(
        math.exp(statistics.fmean(differences)),
        math.exp(low),
        math.exp(high),
        math.exp(middle),
        len(differences),
        signed_rank(differences),
    )
