"""Rollout records -> the numbers of an evaluation, as plain data for result.json.

A sample without a verdict (the grader was silent or broke, or the rollout failed) is counted in `unscored` and leaves the
denominator: it is neither right nor wrong. Fails to be comparable between two models when one of them loses more samples
this way, which is why the count stands beside every number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol

from posttrain.core.statistics import interval, verdicts


class Record(Protocol):
    """What is needed of a rollout record; `records.rollouts.RolloutRecord` has it all."""

    @property
    def suite(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def sample(self) -> int: ...
    @property
    def prompt(self) -> Sequence[Mapping[str, str]]: ...
    @property
    def completion(self) -> str: ...
    @property
    def reference(self) -> str | None: ...
    @property
    def answer(self) -> str | None: ...
    @property
    def score(self) -> float | None: ...
    @property
    def passed(self) -> bool | None: ...
    @property
    def grade_status(self) -> str: ...
    @property
    def explanation(self) -> str: ...
    @property
    def rollout_status(self) -> str: ...
    @property
    def parts(self) -> Mapping[str, float | None]: ...
    @property
    def slices(self) -> Mapping[str, str]: ...
    @property
    def tokens(self) -> int: ...


def summarise(records: Iterable[Record], pass_at: Sequence[int] = (1,)) -> dict[str, dict[str, Any]]:
    """`{suite: {"pass@1": {"value", "low", "high", "n"}, ..., "slices": {"operation=add": {...}}, "tasks", "samples",
    "unscored", "failed", "truncated", "mean_tokens", "mean_score"}}`.

    pass@1 is always there. `n` counts the tasks a number rests on, `truncated` is a share of all samples.
    """
    suites: dict[str, list[Record]] = {}
    for record in records:
        suites.setdefault(record.suite, []).append(record)
    wanted = sorted({1, *pass_at})
    return {suite: _suite(rows, wanted) for suite, rows in suites.items()}


def by_slice(records: Iterable[Record]) -> dict[str, list[Record]]:
    """ "dimension=value" -> its records, in the order of the dimension and the value. A record is in one slice per dimension."""
    slices: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        for dimension, value in record.slices.items():
            slices.setdefault((dimension, value), []).append(record)
    return {f"{dimension}={value}": slices[dimension, value] for dimension, value in sorted(slices)}


def _suite(records: Sequence[Record], pass_at: Sequence[int]) -> dict[str, Any]:
    scores = [record.score for record in records if record.score is not None]
    return {
        **_pass_rates(records, pass_at),
        "slices": {name: _pass_rates(rows, pass_at) for name, rows in by_slice(records).items()},
        "tasks": len({record.task_id for record in records}),
        "samples": len(records),
        "failed": sum(record.rollout_status == "failed" for record in records),
        "truncated": fmean(record.rollout_status == "truncated" for record in records),
        "mean_tokens": fmean(record.tokens for record in records),
        "mean_score": fmean(scores) if scores else None,
    }


def _pass_rates(records: Sequence[Record], pass_at: Sequence[int]) -> dict[str, Any]:
    judged = verdicts(records)
    rates: dict[str, Any] = {f"pass@{k}": interval(judged, k=k).to_json() for k in pass_at}
    rates["unscored"] = len(records) - sum(map(len, judged.values()))
    return rates
