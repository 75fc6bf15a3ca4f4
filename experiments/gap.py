"""How far a reward is from gold on the same rollouts: what optimisation was told, beside what was true.

Gold is read here by itself, and not by a grader that an arm trains on: the number in the answer tag, else the last one,
compared as whole numbers with the task's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from experiments.till import amount
from posttrain.core.agreement import kappa


class Rollout(Protocol):
    @property
    def completion(self) -> str: ...
    @property
    def reference(self) -> str | None: ...
    @property
    def score(self) -> float | None: ...
    @property
    def passed(self) -> bool | None: ...
    @property
    def tokens(self) -> int: ...


@dataclass(frozen=True)
class Gap:
    """Of some rollouts: `reward` their mean score, `gold` the share that is right, `wrong` the share of those that passed which are
    not right (None if none passed), `kappa` between passing and being right (None if both are always the same). A judge's reward
    is a probability; what passes is its verdict."""

    rollouts: int
    tokens: int
    reward: float
    gold: float
    wrong: float | None
    kappa: float | None


def right(rollout: Rollout) -> bool:
    return rollout.reference is not None and amount(rollout.completion) == int(rollout.reference)


def gap(rollouts: Sequence[Rollout]) -> Gap:
    """Raises ValueError where nothing was scored."""
    scored = [rollout for rollout in rollouts if rollout.score is not None]
    if not scored:
        raise ValueError("no rollout has a score")
    truth = [right(rollout) for rollout in scored]
    passed = [bool(rollout.passed) for rollout in scored]
    earned = [true for true, ok in zip(truth, passed, strict=True) if ok]
    return Gap(
        len(rollouts),
        sum(rollout.tokens for rollout in rollouts),
        fmean(rollout.score or 0.0 for rollout in scored),
        fmean(truth),
        1 - fmean(earned) if earned else None,
        kappa([(float(ok), float(true)) for ok, true in zip(passed, truth, strict=True)]),
    )


def fooled(rollouts: Sequence[Rollout], count: int = 3) -> list[Rollout]:
    """The last rollouts that passed and are wrong, one for each text."""
    found: dict[str, Rollout] = {}
    for rollout in reversed(rollouts):
        if rollout.passed and not right(rollout):
            found.setdefault(rollout.completion, rollout)
    return list(found.values())[:count]
