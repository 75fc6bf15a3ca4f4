"""Rejection sampling: of N answers to each task keep the best that are good enough to learn from.

Best first, then shortest, then in sample order, so that the choice is the same every time. Why an answer was dropped is
counted, by the first filter it failed. Fails where the grader is wrong: then it selects for the grader's mistakes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from posttrain.core.config import KeepConfig


class Candidate(Protocol):
    """What choosing needs of a sampled answer."""

    @property
    def task_id(self) -> str: ...
    @property
    def sample(self) -> int: ...
    @property
    def completion(self) -> str: ...
    @property
    def score(self) -> float | None: ...
    @property
    def passed(self) -> bool | None: ...
    @property
    def tokens(self) -> int: ...
    @property
    def rollout_status(self) -> str: ...


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True)
class Chosen(Generic[C]):
    """The kept answers in task order, and how many were dropped for which reason."""

    kept: Sequence[C]
    dropped: Mapping[str, int]


def choose(candidates: Iterable[C], keep: KeepConfig, in_language: Callable[[str], bool], *, graded: bool = True) -> Chosen[C]:
    """The best `per_task` answers of each task that pass every filter, no text twice. `graded` asks for a score as well."""
    by_task: dict[str, list[C]] = {}
    for candidate in candidates:
        by_task.setdefault(candidate.task_id, []).append(candidate)
    kept: list[C] = []
    dropped: Counter[str] = Counter()
    for answers in by_task.values():
        good = []
        for answer in answers:
            reason = why_not(answer, keep, in_language, graded=graded)
            if reason:
                dropped[reason] += 1
            else:
                good.append(answer)
        good.sort(key=lambda a: (-(a.score or 0.0), a.tokens, a.sample))
        distinct = list({answer.completion.strip(): answer for answer in reversed(good)}.values())[::-1]
        dropped["duplicate"] += len(good) - len(distinct)
        dropped["not among the best"] += max(0, len(distinct) - keep.per_task)
        kept += distinct[: keep.per_task]
    return Chosen(kept, {reason: count for reason, count in dropped.items() if count})


def why_not(answer: Candidate, keep: KeepConfig, in_language: Callable[[str], bool], *, graded: bool = True) -> str:
    """The first filter an answer fails; empty if it passes all."""
    if answer.rollout_status == "failed":
        return "unanswered"
    if graded and answer.score is None:
        return "unscored"
    if keep.finished and answer.rollout_status != "done":
        return "cut off"
    if not answer.completion.strip():
        return "empty"
    if keep.passed and not answer.passed:
        return "not passed"
    if keep.min_score is not None and (answer.score is None or answer.score < keep.min_score):
        return "score too low"
    if keep.max_tokens is not None and answer.tokens > keep.max_tokens:
        return "too long"
    if repetition(answer.completion) > keep.max_repetition:
        return "repetitive"
    if keep.language is not None and not in_language(answer.completion):
        return "wrong language"
    return ""


def repetition(text: str, n: int = 4) -> float:
    """Share of word n-grams that have occurred before in the text; 0 for texts too short to have one."""
    words = text.split()
    ngrams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
