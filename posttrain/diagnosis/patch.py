"""A diagnosis -> how often new training tasks should come from each slice.

Within a dimension, a slice's weight is its failure rate, shrunk towards 1/2 by one imagined success and failure (Laplace), so
that three lucky tasks do not take a slice out. `floor` of the whole is spread evenly, because training on the failures
alone forgets the rest. Samples without a verdict count nowhere: a broken grader is not repaired by data.
Assumes that practice helps. Fails where a slice is wrong because its references are.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from statistics import fmean

from posttrain.diagnosis.findings import ALL, Diagnosis


def patch(diagnosis: Diagnosis, *, floor: float = 0.2) -> dict[str, float]:
    """ "dimension=value" -> weight; within a dimension they average 1. Empty if the tasks have no slices."""
    if not 0 <= floor <= 1:
        raise ValueError(f"floor is {floor}; expected a share from 0 to 1")
    dimensions: dict[str, dict[str, list[int]]] = {}
    for suite in diagnosis.suites.values():
        for name, count in suite.slices.items():
            if name != ALL:
                total = dimensions.setdefault(name.split("=", 1)[0], {}).setdefault(name, [0, 0])
                total[0] += count.failed
                total[1] += count.judged
    weights: dict[str, float] = {}
    for slices in dimensions.values():
        need = {name: (failed + 1) / (judged + 2) for name, (failed, judged) in slices.items()}
        mean = fmean(need.values())
        weights |= {name: floor + (1 - floor) * value / mean for name, value in need.items()}
    return weights


def task_weight(slices: Mapping[str, str], weights: Mapping[str, float]) -> float:
    """Relative chance of a task with these slices: the product over its dimensions. A slice it never saw counts as average."""
    return prod(weights.get(f"{dimension}={value}", 1.0) for dimension, value in slices.items())
