"""How far two raters agree, beyond chance. Standard library only, so evaluation, diagnosis and the command line share one copy.

Letters: n items, k categories, p_o the observed share of agreement, p_e the share expected by chance.

* Cohen's kappa (1960): (p_o - p_e) / (1 - p_e), p_e from both raters' own category shares. With quadratic weights (Cohen 1968) a
  miss by two steps counts four times one by a single step; for ordered categories.
* Gwet's AC1 (2008, British Journal of Mathematical and Statistical Psychology 61, equation 6): as kappa, with
  p_e = Σ π_c (1 - π_c) / (k - 1), π_c the mean of both raters' shares. It stays sensible where nearly all items are of one
  category, where kappa drops though the raters agree ("kappa's paradox").

Intervals resample items (percentile bootstrap). Assumes that items are independent. Kappa is undefined, None, where both raters
use one and the same category throughout.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import fmean

from posttrain.core.statistics import Interval, percentiles

RESAMPLES = 1000
Pairs = Sequence[tuple[float, float]]
Measure = Callable[[Pairs], float | None]


def agreement(pairs: Pairs) -> float | None:
    """Share of items on which both say the same."""
    return fmean(a == b for a, b in pairs) if pairs else None


def kappa(pairs: Pairs) -> float | None:
    return weighted_kappa(pairs, lambda distance: float(distance > 0))


def quadratic_kappa(pairs: Pairs) -> float | None:
    """For ordered categories; distances are counted in steps of the categories that occur, in order."""
    return weighted_kappa(pairs, lambda distance: float(distance * distance))


def weighted_kappa(pairs: Pairs, cost: Callable[[int], float]) -> float | None:
    """1 - observed cost / cost expected by chance."""
    if not pairs:
        return None
    categories = sorted({value for pair in pairs for value in pair})
    place = {value: index for index, value in enumerate(categories)}
    first, second = shares([a for a, _ in pairs]), shares([b for _, b in pairs])
    observed = fmean(cost(abs(place[a] - place[b])) for a, b in pairs)
    expected = sum(p * q * cost(abs(place[a] - place[b])) for a, p in first.items() for b, q in second.items())
    return None if expected == 0 else 1 - observed / expected


def gwet_ac1(pairs: Pairs) -> float | None:
    if not pairs:
        return None
    both = shares([value for pair in pairs for value in pair])
    if len(both) < 2:
        return 1.0  # one category only: all agree, and the second category that could be is not known
    chance = sum(p * (1 - p) for p in both.values()) / (len(both) - 1)
    observed = fmean(a == b for a, b in pairs)
    return (observed - chance) / (1 - chance)


def shares(values: Sequence[float]) -> dict[float, float]:
    return {value: values.count(value) / len(values) for value in dict.fromkeys(values)}


def with_interval(
    pairs: Pairs, measure: Measure, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """A measure and its bootstrap interval. Resamples on which it is undefined are left out; without any there are no limits."""
    draw = random.Random(seed)
    found = sorted(v for _ in range(resamples) if pairs and (v := measure(draw.choices(pairs, k=len(pairs)))) is not None)
    low, high = percentiles(found, confidence) if found else (None, None)
    return Interval(measure(pairs), low, high, len(pairs))


def precision_recall(pairs: Sequence[tuple[bool, bool]], positive: bool) -> dict[str, float | int | None]:
    """Of one class: pairs are (truth, said). None where nothing was said to be, or is, of the class."""
    hits = sum(truth == said == positive for truth, said in pairs)
    said, true = sum(said == positive for _, said in pairs), sum(truth == positive for truth, _ in pairs)
    return {"precision": hits / said if said else None, "recall": hits / true if true else None, "n": true}


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation, ties at their mean rank (Spearman 1904). None where one side does not vary."""
    x, y = ranks(first), ranks(second)
    if len(x) < 3:
        return None
    mx, my = fmean(x), fmean(y)
    spread = (sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)) ** 0.5
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / spread if spread else None


def ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for index in order[start : end + 1]:
            found[index] = (start + end) / 2 + 1
        start = end + 1
    return found
