"""Two evaluations side by side, for a terminal: every suite and slice, the paired change, and whether it is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posttrain.core.errors import UserError
from posttrain.core.statistics import Changes, Interval, Paired, changes, interval, paired, verdicts
from posttrain.diagnosis.findings import ALL
from posttrain.diagnosis.load import StageView, load_run, load_stage, records
from posttrain.diagnosis.show import limits, percent, points, probability, visible
from posttrain.records.paths import StagePaths

if TYPE_CHECKING:
    from posttrain.records.rollouts import RolloutRecord

COLUMNS = ("suite", "slice", "before", "after", "change", "p", "tasks", "fixed", "regressed")


@dataclass(frozen=True)
class Line:
    """One suite or slice of it. `before` and `after` are over all tasks of each side, `test` over those both answered."""

    suite: str
    slice: str
    before: Interval
    after: Interval
    test: Paired
    unscored: tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    before: str
    after: str
    lines: Sequence[Line]
    tasks: Mapping[str, Changes]
    """Suite -> which tasks were fixed, which regressed."""
    notes: Sequence[str]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Cells of a table under `COLUMNS`, as plain text that is safe to print."""
        return [
            (
                visible(line.suite, 60),
                visible(line.slice, 60),
                _estimate(line.before),
                _estimate(line.after),
                f"{points(line.test.difference)} [{points(line.test.low)} to {points(line.test.high)}]" if line.test.n else "–",
                probability(line.test.p_value).removeprefix("p ").removeprefix("= "),
                str(line.test.n),
                str(line.test.fixed),
                str(line.test.regressed),
            )
            for line in self.lines
        ]

    def text(self) -> str:
        """The whole comparison for a pipe or a dumb terminal."""
        table = [COLUMNS, *self.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(COLUMNS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
        return "\n".join([f"{visible(self.before)} → {visible(self.after)}", *lines, *map(visible, self.notes)])

    def to_json(self) -> dict[str, Any]:
        lines = [
            {
                "suite": line.suite,
                "slice": line.slice,
                "before": line.before.to_json(),
                "after": line.after.to_json(),
                "change": line.test.to_json(),
                "unscored": {"before": line.unscored[0], "after": line.unscored[1]},
            }
            for line in self.lines
        ]
        tasks = {suite: {"fixed": list(each.fixed), "regressed": list(each.regressed)} for suite, each in self.tasks.items()}
        return {"before": self.before, "after": self.after, "lines": lines, "tasks": tasks, "notes": list(self.notes)}


def compare(before: Path, after: Path) -> Comparison:
    """Compare two evaluations by their records. Each path is an evaluate stage's folder, or a run's (its last evaluation; given
    the same run twice, its first and its last). Raises UserError where there is nothing to compare."""
    old = _evaluation(before, first=before.resolve() == after.resolve())
    new = _evaluation(after, first=False)
    was, is_now = list(records(old)), list(records(new))
    suites = [suite for suite in dict.fromkeys(r.suite for r in was) if any(r.suite == suite for r in is_now)]
    if not suites:
        raise UserError(
            f"{old.paths.directory} and {new.paths.directory} have no suite in common",
            fix="Compare evaluations of the same suites.",
        )
    lines, tasks, notes = [], {}, []
    for suite in suites:
        left, right = ([r for r in side if r.suite == suite] for side in (was, is_now))
        old_verdicts, new_verdicts = verdicts(left), verdicts(right)
        tasks[suite] = changes(old_verdicts, new_verdicts)
        slices = dict.fromkeys(f"{name}={value}" for r in left for name, value in sorted(r.slices.items()))
        lines += [_line(suite, name, left, right) for name in [ALL, *sorted(slices)]]
        unmatched = len(old_verdicts.keys() ^ new_verdicts.keys())
        if unmatched:
            notes.append(f"{suite}: {unmatched} tasks have a verdict on one side only; the change is over the others.")
        missing = lines[-len(slices) - 1].unscored
        if any(missing):
            notes.append(f"{suite}: {missing[0]} samples before and {missing[1]} after have no verdict and count nowhere.")
    return Comparison(_name(before, old), _name(after, new), lines, tasks, notes)


def _line(suite: str, name: str, before: Sequence[RolloutRecord], after: Sequence[RolloutRecord]) -> Line:
    dimension, _, value = name.partition("=")
    old, new = ([r for r in side if name == ALL or r.slices.get(dimension) == value] for side in (before, after))
    was, is_now = verdicts(old), verdicts(new)
    unscored = (len(old) - sum(map(len, was.values())), len(new) - sum(map(len, is_now.values())))
    return Line(suite, name, interval(was), interval(is_now), paired(was, is_now), unscored)


def _evaluation(path: Path, *, first: bool) -> StageView:
    if StagePaths(path).rollouts.is_dir():
        return load_stage(path)
    found = [stage for stage in load_run(path).evaluations if stage.rollout_files]
    if not found:
        raise UserError(
            f"{path} holds no finished evaluation with its rollouts", fix="Give a run, or an evaluate stage's folder in it."
        )
    return found[0 if first else -1]


def _name(path: Path, stage: StageView) -> str:
    return f"{path.name}/{stage.id}" if stage.paths.directory.resolve() != path.resolve() else f"{path.parent.name}/{path.name}"


def _estimate(estimate: Interval) -> str:
    return f"{percent(estimate.value)} [{limits(estimate.to_json())}]" if estimate.value is not None else "–"
