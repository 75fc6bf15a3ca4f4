"""What a monitor says, and how it reads the history of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, Literal

from posttrain.core.types import Group, Rollout

Severity = Literal["note", "warn", "stop"]
History = Sequence[Mapping[str, Any]]
"""Metrics of each step so far, oldest first, as in metrics.jsonl."""
Groups = Sequence[Group]
"""The groups of the last step."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`note` is worth knowing, `warn` is worth looking at now, `stop` means that going on would waste or spoil the run."""

    severity: Severity
    monitor: str
    text: str


def series(history: History, name: str) -> list[float]:
    """The finite values of a metric, in order. Steps without it are skipped."""
    values = (row.get(name) for row in history)
    return [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]


def start_and_now(history: History, name: str, window: int) -> tuple[float, float] | None:
    """Means over the first and the last `window` values; None until they do not overlap."""
    values = series(history, name)
    if len(values) < 2 * window:
        return None
    return fmean(values[:window]), fmean(values[-window:])


def gained(history: History, window: int, least: float = 0.02) -> bool:
    """Whether the pass rate is higher now than at the start by at least `least`."""
    passed = start_and_now(history, "passed", window)
    return passed is not None and passed[1] - passed[0] >= least


def standard_error(values: Sequence[float]) -> float:
    return math.sqrt(variance(values) / len(values)) if len(values) > 1 else 0.0


def rollouts(groups: Groups) -> list[Rollout]:
    return [rollout for group in groups for rollout in group.rollouts]
