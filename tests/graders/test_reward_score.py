"""The reward model as a grader: how members are combined, and what is no score."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from posttrain.core.config import MathGrader, RewardModelGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Message, Task
from posttrain.graders import build, grade_text, selftest
from posttrain.graders.reward_score import combined

TASK = Task("t", (Message("user", "1+1?"),), answer="2")


class Fixed:
    """A reward model that says what it is told to."""

    def __init__(self, *rewards: float) -> None:
        self.given, self.asked = rewards, list[tuple[tuple[Message, ...], bool]]()

    async def rewards(self, messages: Sequence[Message], *, normalise: bool) -> Sequence[float]:
        self.asked.append((tuple(messages), normalise))
        return self.given


class Refusing:
    async def rewards(self, messages: Sequence[Message], *, normalise: bool) -> Sequence[float]:
        raise UserError("too long")


def graded(scorer: object, **settings: object) -> Grade:
    config = RewardModelGrader(model="rm", **settings)  # type: ignore[arg-type]
    return grade_text(config, TASK, "two", scorers={"rm": scorer})  # type: ignore[dict-item]


STD = math.sqrt(2 / 3)  # of 1, 2 and 3


@pytest.mark.parametrize(
    ("settings", "score"),
    [
        ({}, 2.0),
        ({"combine": "min"}, 1.0),
        ({"combine": "mean_minus_std"}, 2 - STD),
        ({"combine": "mean_minus_std", "penalty": 0.5}, 2 - STD / 2),
    ],
)
def test_members_are_combined_by_hand(settings: dict[str, object], score: float) -> None:
    config = RewardModelGrader(model="rm", **settings)  # type: ignore[arg-type]
    assert combined(config, [1.0, 2.0, 3.0]) == pytest.approx(score)


def test_it_scores_the_conversation_and_judges_nothing() -> None:
    scorer = Fixed(-7.5)
    grade = graded(scorer)
    assert grade == Grade(-7.5, None)
    assert scorer.asked == [((*TASK.messages, Message("assistant", "two")), True)]


def test_disagreement_is_a_part_of_the_whole_grade() -> None:
    config = RewardModelGrader(model="rm", weight=2.0)
    composite = build([config, MathGrader(weight=0)], base=Path(), scorers={"rm": Fixed(1.0, 3.0)})
    try:
        found = asyncio.run(composite.text(TASK, "2"))
    finally:
        composite.close()
    assert found.score == 4.0 and found.passed is True
    assert found.parts == {"reward_model": 2.0, "math": 1.0, "reward_model/std": 1.0}


def test_no_score_is_an_error_and_not_a_zero() -> None:
    assert graded(Refusing()).status == "error" and "too long" in graded(Refusing()).explanation
    assert graded(Fixed(math.nan)).status == "error"
    assert graded(Fixed(1.0, math.inf)).score is None


def test_it_cannot_be_a_gate_and_needs_its_model() -> None:
    with pytest.raises(ValueError, match="gate is true"):
        RewardModelGrader(model="rm", gate=True)
    with pytest.raises(UserError, match="was not given"):
        build([RewardModelGrader(model="rm")], base=Path())


def test_the_self_test_has_nothing_to_ask_of_it() -> None:
    """It decides no correctness; a math grader beside it is still examined."""
    assert selftest([RewardModelGrader(model="rm")], [TASK], base=Path()).tried == {}
    assert selftest([RewardModelGrader(model="rm"), MathGrader(weight=0)], [TASK], base=Path()).tried["gold"] == 1
