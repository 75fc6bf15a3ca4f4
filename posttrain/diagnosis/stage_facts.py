"""What a stage says of itself in its result, as lines of a table: numbers, first and last values, estimates with intervals.

Any plain data is read: a kind of stage needs to declare nothing to be shown. Lists and texts longer than a line are left to
result.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from posttrain.diagnosis.load import RunView
from posttrain.diagnosis.show import number, visible

SHOWN_ELSEWHERE = ("evaluate", "diagnose")
MOST = 40


@dataclass(frozen=True)
class Facts:
    """Lines of (name, value); `left_out` counts those beyond the most that are shown."""

    stage: str
    kind: str
    lines: list[tuple[str, str]]
    left_out: int


def stage_facts(run: RunView) -> list[Facts]:
    found = []
    for stage in run.stages:
        summary = stage.result.get("summary")
        if stage.kind in SHOWN_ELSEWHERE or not isinstance(summary, Mapping):
            continue
        lines = list(_lines(summary, ""))
        if lines:
            found.append(Facts(stage.id, stage.kind, lines[:MOST], max(0, len(lines) - MOST)))
    return found


def _lines(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            text = _pair(value) or _estimate(value)
            if text:
                yield visible(name, 80), text
            else:
                yield from _lines(value, f"{name}, ")
        elif isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 80):
            yield visible(name, 80), number(value) if not isinstance(value, bool) else str(value).lower()


def _pair(value: Mapping[str, Any]) -> str:
    """`{first, last}` or `{before, after}` as one line."""
    for start, end in (("first", "last"), ("before", "after")):
        if set(value) == {start, end} and not any(isinstance(each, Mapping) for each in value.values()):
            return f"{number(value[start])} → {number(value[end])}"
    return ""


def _estimate(value: Mapping[str, Any]) -> str:
    """`{value, low, high}` or `{difference, low, high}` as a number with its interval."""
    for middle in ("value", "difference"):
        if {middle, "low", "high"} <= set(value):
            count = f", n = {number(value['n'])}" if "n" in value else ""
            return f"{number(value[middle])} ({number(value['low'])} to {number(value['high'])}{count})"
    return ""
