"""What fails, where and how often: failed rollouts by slice and failure code, and what changed since an earlier evaluation.

The share of a code is over the samples with a verdict; of `grader_error`, over all. Intervals treat tasks as the independent
draws. A sample is in one slice of each dimension, so slices of different dimensions overlap.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from posttrain.core.statistics import Changes, Interval, Paired, changes, interval, paired, verdicts
from posttrain.diagnosis.advice import advise
from posttrain.diagnosis.codes import failure_code

if TYPE_CHECKING:
    from posttrain.records.rollouts import RolloutRecord

ALL = "all"


@dataclass(frozen=True)
class Example:
    """One rollout, with what a person needs to judge it."""

    task_id: str
    sample: int
    code: str | None
    prompt: Sequence[Mapping[str, Any]]
    completion: str
    reference: str | None
    answer: str | None
    score: float | None
    parts: Mapping[str, float | None]
    slices: Mapping[str, str]
    explanation: str


@dataclass(frozen=True)
class Cell:
    """How often one failure code occurs in one slice. `examples` are keys of the suite's examples."""

    slice: str
    code: str
    count: int
    of: int
    share: Interval
    examples: tuple[str, ...]


@dataclass(frozen=True)
class SliceCount:
    """Samples of a slice that have a verdict, and how many of them failed."""

    judged: int
    failed: int
    failure: Interval


@dataclass(frozen=True)
class Change:
    """Against an earlier evaluation of the same tasks. Pairs are (before, after)."""

    test: Paired
    tasks: Changes
    fixed: tuple[tuple[Example, Example], ...]
    regressed: tuple[tuple[Example, Example], ...]


@dataclass(frozen=True)
class SuiteDiagnosis:
    rollouts: int
    judged: int
    failed: int
    slices: Mapping[str, SliceCount]
    """`all` first, then every "dimension=value"."""
    cells: Sequence[Cell]
    examples: Mapping[str, Example]
    change: Change | None
    advice: Sequence[str]


@dataclass(frozen=True)
class Diagnosis:
    suites: Mapping[str, SuiteDiagnosis] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data for diagnosis.json."""
        return asdict(self)


def diagnose(records: Iterable[RolloutRecord], *, before: Iterable[RolloutRecord] | None = None, examples: int = 5) -> Diagnosis:
    """Explain an evaluation. `before` is an earlier one of the same tasks; `examples` are shown of each cell and each change."""
    earlier = _by_suite(before or ())
    return Diagnosis(
        {suite: _suite(rows, earlier.get(suite, []), examples) for suite, rows in _by_suite(records).items()},
    )


def _suite(records: Sequence[RolloutRecord], before: Sequence[RolloutRecord], examples: int) -> SuiteDiagnosis:
    coded = [(record, failure_code(record)) for record in records]
    judged = [(record, code) for record, code in coded if record.passed is not None and code != "grader_error"]
    slices = {ALL: coded, **_by_slice(coded)}
    cells = [cell for name, rows in slices.items() for cell in _cells(name, rows, examples)]
    shown = {key for cell in cells for key in cell.examples}
    counts = {name: _slice_count(rows) for name, rows in slices.items()}
    change = _change(before, records, examples) if before else None
    return SuiteDiagnosis(
        rollouts=len(records),
        judged=len(judged),
        failed=sum(code is not None for _, code in judged),
        slices=counts,
        cells=cells,
        examples={_key(record): _example(record, code) for record, code in coded if _key(record) in shown},
        change=change,
        advice=advise(cells, change),
    )


Coded = Sequence[tuple["RolloutRecord", str | None]]


def _cells(name: str, rows: Coded, examples: int) -> list[Cell]:
    judged = [(record, code) for record, code in rows if record.passed is not None and code != "grader_error"]
    cells = []
    for code, count in Counter(code for _, code in rows if code is not None).most_common():
        base = rows if code == "grader_error" else judged
        hits: dict[str, list[bool]] = {}
        for record, other in base:
            hits.setdefault(record.task_id, []).append(other == code)
        keys = sorted((_key(record) for record, other in rows if other == code), key=_shuffled)
        cells.append(Cell(name, code, count, len(base), interval(hits), tuple(keys[:examples])))
    return cells


def _slice_count(rows: Coded) -> SliceCount:
    failures: dict[str, list[bool]] = {}
    for record, code in rows:
        if record.passed is not None and code != "grader_error":
            failures.setdefault(record.task_id, []).append(code is not None)
    values = [failed for each in failures.values() for failed in each]
    return SliceCount(len(values), sum(values), interval(failures))


def _change(before: Sequence[RolloutRecord], after: Sequence[RolloutRecord], examples: int) -> Change:
    was, is_now = verdicts(before), verdicts(after)
    tasks = changes(was, is_now)
    old, new = _one_per_task(before), _one_per_task(after)

    def pairs(ids: Sequence[str], right_before: bool) -> tuple[tuple[Example, Example], ...]:
        chosen = sorted(ids, key=_shuffled)[:examples]
        return tuple((old[task, right_before], new[task, not right_before]) for task in chosen)

    return Change(paired(was, is_now), tasks, pairs(tasks.fixed, False), pairs(tasks.regressed, True))


def _one_per_task(records: Iterable[RolloutRecord]) -> dict[tuple[str, bool], Example]:
    """(task, passed) -> its first sample with that verdict. A task that changed sides has both kinds to show."""
    found: dict[tuple[str, bool], Example] = {}
    for record in records:
        if record.grade_status == "scored" and record.passed is not None:
            found.setdefault((record.task_id, record.passed), _example(record, failure_code(record)))
    return found


def _example(record: RolloutRecord, code: str | None) -> Example:
    return Example(
        task_id=record.task_id,
        sample=record.sample,
        code=code,
        prompt=[dict(message) for message in record.prompt],
        completion=record.completion,
        reference=record.reference,
        answer=record.answer,
        score=record.score,
        parts=dict(record.parts),
        slices=dict(record.slices),
        explanation=record.explanation,
    )


def _by_suite(records: Iterable[RolloutRecord]) -> dict[str, list[RolloutRecord]]:
    suites: dict[str, list[RolloutRecord]] = {}
    for record in records:
        suites.setdefault(record.suite, []).append(record)
    return suites


def _by_slice(rows: Coded) -> dict[str, list[tuple[RolloutRecord, str | None]]]:
    slices: dict[tuple[str, str], list[tuple[RolloutRecord, str | None]]] = {}
    for record, code in rows:
        for dimension, value in record.slices.items():
            slices.setdefault((dimension, value), []).append((record, code))
    return {f"{dimension}={value}": slices[dimension, value] for dimension, value in sorted(slices)}


def _key(record: RolloutRecord) -> str:
    return f"{record.task_id}#{record.sample}"


def _shuffled(key: str) -> str:
    """Order by hash: examples are spread over the tasks, and the same ones are chosen every time."""
    return hashlib.sha256(key.encode()).hexdigest()
