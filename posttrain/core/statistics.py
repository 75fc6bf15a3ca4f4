"""How sure a pass rate is. Standard library only, so evaluation, diagnosis, monitors and benchmarks share one copy.

Everything takes *verdicts*: for each task the True/False of its scored samples. Samples without a verdict (the grader gave
no answer) are left out by `verdicts` and never count as wrong. Tasks, not samples, are the independent draws: several
samples of one task say little new, so intervals over them resample tasks (a clustered bootstrap).

Assumes that tasks were drawn independently. Fails when they were not (ten paraphrases of one question look like ten tasks).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Protocol

Verdicts = Mapping[str, Sequence[bool]]

RESAMPLES = 2000


class Judged(Protocol):
    """What `verdicts` needs of a rollout record."""

    @property
    def task_id(self) -> str: ...
    @property
    def passed(self) -> bool | None: ...
    @property
    def grade_status(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, its confidence limits, and the number of tasks it rests on. Without tasks the numbers are None."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True, slots=True)
class Paired:
    """After minus before on the same tasks. `fixed` and `regressed` count tasks that got better and worse."""

    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    fixed: int
    regressed: int
    method: str

    def to_json(self) -> dict[str, float | int | str | None]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Changes:
    """Task ids by what happened to them. A task is right when at least half of its scored samples pass."""

    fixed: tuple[str, ...]
    regressed: tuple[str, ...]
    still_wrong: tuple[str, ...]
    still_right: tuple[str, ...]


def verdicts(records: Iterable[Judged]) -> dict[str, list[bool]]:
    """Task id -> True/False of each sample that has a verdict, in the records' order. Tasks without any are absent."""
    found: dict[str, list[bool]] = {}
    for record in records:
        if record.grade_status == "scored" and record.passed is not None:
            found.setdefault(record.task_id, []).append(record.passed)
    return found


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n samples, c of them correct, hold a correct one: 1 - C(n-c, k)/C(n, k).

    Unbiased (arXiv:2107.03374, section 2.1), unlike 1 - (1 - c/n)^k. Fails (ValueError) when fewer than k samples exist.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {n} samples with {c} correct: expected 0 <= correct <= samples and 1 <= k <= samples")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def wilson(passed: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a share of independent tries (1927). Stays in [0, 1] and honest at 0 and at `total`."""
    if total == 0:
        return Interval(None, None, None, 0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = passed / total
    shrink = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / shrink
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / shrink
    low = 0.0 if passed == 0 else centre - half  # exact at the ends, where the formula is off by rounding
    high = 1.0 if passed == total else centre + half
    return Interval(share, low, high, total)


def bootstrap_means(values: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0) -> list[float]:
    """Sorted means of resamples of `values`, one value per task. The seed makes the same data give the same interval."""
    draw = random.Random(seed)
    return sorted(fmean(draw.choices(values, k=len(values))) for _ in range(resamples))


def percentiles(ordered: Sequence[float], confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    last = len(ordered) - 1
    return ordered[round(tail * last)], ordered[round((1 - tail) * last)]


def interval(
    passed_by_task: Verdicts, *, k: int = 1, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """pass@k over tasks: Wilson where each task is one try, else a bootstrap that resamples whole tasks.

    Tasks with fewer than k scored samples cannot give pass@k and are left out (`n` says how many remain). Where every task
    has the same value 0 or 1 the bootstrap would claim certainty, so Wilson over tasks is used.
    """
    estimates = [pass_at_k(len(v), sum(v), k) for v in passed_by_task.values() if len(v) >= k]
    if not estimates:
        return Interval(None, None, None, 0)
    single = all(len(v) == 1 for v in passed_by_task.values())
    if single or set(estimates) in ({0.0}, {1.0}):
        return wilson(round(sum(estimates)), len(estimates), confidence=confidence)
    low, high = percentiles(bootstrap_means(estimates, resamples=resamples, seed=seed), confidence)
    return Interval(fmean(estimates), low, high, len(estimates))


def mcnemar(fixed: int, regressed: int) -> float:
    """Two-sided exact p-value that `fixed` and `regressed` are a fair coin's heads and tails (McNemar 1947, exact form)."""
    changed = fixed + regressed
    tail = sum(math.comb(changed, i) for i in range(min(fixed, regressed) + 1))
    return min(1.0, float(2 * tail / 2**changed))


def paired(before: Verdicts, after: Verdicts, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Paired:
    """Two models on the tasks both have verdicts for: McNemar's exact test for single answers, else a paired bootstrap.

    The single-answer limits are Bonett and Price's adjusted Wald interval (2012), which holds in small samples. The
    bootstrap resamples tasks; its p-value is twice the share of resamples on the other side of 0, and so is never below
    2/(resamples + 1).
    """
    both = [task for task in before if task in after and before[task] and after[task]]
    if not both:
        return Paired(None, None, None, None, 0, 0, 0, "none: no task was answered by both")
    moves = [fmean(after[task]) - fmean(before[task]) for task in both]
    fixed, regressed = sum(m > 0 for m in moves), sum(m < 0 for m in moves)
    n, difference = len(both), fmean(moves)
    if all(len(before[task]) == len(after[task]) == 1 for task in both):
        better, worse = (fixed + 1) / (n + 2), (regressed + 1) / (n + 2)
        half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt((better + worse - (better - worse) ** 2) / (n + 2))
        low, high = max(-1.0, better - worse - half), min(1.0, better - worse + half)
        return Paired(difference, low, high, mcnemar(fixed, regressed), n, fixed, regressed, "McNemar exact")
    means = bootstrap_means(moves, resamples=resamples, seed=seed)
    low, high = percentiles(means, confidence)
    other_side = min(sum(m <= 0 for m in means), sum(m >= 0 for m in means))
    p_value = min(1.0, 2 * (other_side + 1) / (resamples + 1))
    return Paired(difference, low, high, p_value, n, fixed, regressed, "paired bootstrap over tasks")


def changes(before: Verdicts, after: Verdicts) -> Changes:
    """What happened to each task that both answered, in the order of `before`."""
    found: dict[tuple[bool, bool], list[str]] = {}
    for task in before:
        if before[task] and after.get(task):
            found.setdefault((_right(before[task]), _right(after[task])), []).append(task)
    return Changes(
        fixed=tuple(found.get((False, True), ())),
        regressed=tuple(found.get((True, False), ())),
        still_wrong=tuple(found.get((False, False), ())),
        still_right=tuple(found.get((True, True), ())),
    )


def best_of_n_kl(n: int) -> float:
    """KL(best of n ‖ one sample) in nats: log n - (n-1)/n. Exact when no two samples tie; ties make it an upper bound."""
    if n < 1:
        raise ValueError(f"best of {n}: expected at least 1 sample")
    return math.log(n) - (n - 1) / n


def _right(passes: Sequence[bool]) -> bool:
    return 2 * sum(passes) >= len(passes)
