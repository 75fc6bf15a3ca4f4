"""What changed between two models, task by task: fixed, regressed, still wrong, still right, with the paired test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from posttrain.core.statistics import Changes, Paired, changes, paired, verdicts
from posttrain.evaluation.summarise import Record


@dataclass(frozen=True)
class Difference:
    """Two evaluations of one suite. `unmatched` counts tasks that only one of them has a verdict for."""

    changes: Changes
    test: Paired
    unmatched: int

    def to_json(self) -> dict[str, Any]:
        ids = {name: list(getattr(self.changes, name)) for name in ("fixed", "regressed", "still_wrong", "still_right")}
        return {"test": self.test.to_json(), "unmatched": self.unmatched, **ids}


def difference(before: Iterable[Record], after: Iterable[Record]) -> dict[str, Difference]:
    """Suite -> what changed, for every suite both have. Tasks are matched by id, so they must be the same tasks."""
    was, is_now = _by_suite(before), _by_suite(after)
    found = {}
    for suite in was:
        if suite in is_now:
            old, new = verdicts(was[suite]), verdicts(is_now[suite])
            found[suite] = Difference(changes(old, new), paired(old, new), len(old.keys() ^ new.keys()))
    return found


def _by_suite(records: Iterable[Record]) -> dict[str, list[Record]]:
    suites: dict[str, list[Record]] = {}
    for record in records:
        suites.setdefault(record.suite, []).append(record)
    return suites
