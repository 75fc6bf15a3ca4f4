"""Which answers are paired, which are not and why, and labels turned round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from posttrain.core.config import MathGrader, PreferencesConfig, SamplingConfig, TaskSource
from posttrain.core.types import Message, Pair, Task
from posttrain.synthesis.preferences import Compilation, compare, paired


@dataclass(frozen=True)
class Sampled:
    task_id: str
    sample: int
    completion: str
    score: float | None
    passed: bool | None = None
    tokens: int = 3
    rollout_status: str = "done"


def config_of(**changes: Any) -> PreferencesConfig:
    settings = {"tasks": [TaskSource(source="x")], "graders": [MathGrader()], **changes}
    return PreferencesConfig(**settings)


def compared(answers: list[tuple[str, float | None]], status: str = "done", **changes: Any) -> Compilation:
    """One task's answers, numbered in order; those that score 1 pass."""
    found = [Sampled("t", i, text, score, score == 1, rollout_status=status) for i, (text, score) in enumerate(answers)]
    tasks = {"t": Task("t", (Message("user", "2 + 2?"),), answer="4")}
    return compare(found, tasks, config_of(**changes), seed=1)


def test_the_best_with_the_worst_and_the_first_of_equals() -> None:
    assert paired([0.5, 1.0, 0.0, 1.0, 0.0], [True] * 5, "best_worst", 0.0) == [Pair(1, 2, margin=1.0)]


def test_every_two_that_differ() -> None:
    found = paired([0.5, 1.0, 0.5], [True] * 3, "all", 0.0)
    assert [(p.better, p.worse) for p in found] == [(1, 0), (1, 2)]
    assert paired([1.0, 0.4, 0.0], [True] * 3, "all", 0.5) == [Pair(0, 1, margin=0.6), Pair(0, 2, margin=1.0)]


def test_what_may_not_win_may_still_lose() -> None:
    assert paired([1.0, 0.5, 0.0], [False, True, True], "best_worst", 0.0) == [Pair(1, 2, margin=0.5)]
    assert paired([0.0, 1.0], [False, True], "best_worst", 0.0) == [Pair(1, 0, margin=1.0)]
    assert paired([1.0, 0.0], [False, False], "all", 0.0) == []


def test_only_compared_answers_are_kept_with_their_samples_and_scores() -> None:
    (made,) = compared([("5", 0.0), ("6", 0.5), ("4", 1.0)]).compared
    assert made.answers == ["5", "4"] and made.samples == [0, 2] and made.scores == [0.0, 1.0]
    assert made.pairs == [Pair(1, 0, margin=1.0)] and made.flipped == [False]


@pytest.mark.parametrize(
    ("answers", "changes", "reason"),
    [
        ([("5", 0.0), ("6", 0.0)], {}, "all scores equal"),
        ([("5", 0.0), ("4", None)], {}, "fewer than two different scored answers"),
        ([("4", 1.0), (" 4 ", 1.0), ("", 0.0)], {}, "fewer than two different scored answers"),
        ([("5", 0.4), ("4", 1.0)], {"margin": 0.7}, "margin too small"),
        ([("5", 0.0), ("4", 1.0)], {"status": "truncated"}, "every better answer was cut off"),
    ],
)
def test_a_task_without_a_pair_is_counted(answers: list[Any], changes: dict[str, Any], reason: str) -> None:
    found = compared(answers, **changes)
    assert not found.compared and found.skipped == {reason: 1}


def test_a_cut_off_answer_may_win_where_that_is_asked() -> None:
    assert compared([("5", 0.0), ("4", 1.0)], "truncated", finished=False).compared


def test_a_known_answer_is_preferred_to_wrong_ones() -> None:
    answers: list[tuple[str, float | None]] = [("5", 0.0), ("4!", 1.0), ("6", 0.2), ("7", None)]
    (made,) = compared(answers, better="reference", pairing="all").compared
    assert made.answers == ["4", "5", "6"] and made.samples == [None, 0, 2]
    assert made.pairs == [Pair(0, 1), Pair(0, 2)]
    (worst,) = compared(answers, better="reference").compared
    assert worst.answers == ["4", "5"]
    assert compared([("4!", 1.0)], better="reference").skipped == {"no wrong answer": 1}
    unknown = compare(
        [Sampled("t", 0, "5", 0.0, False)], {"t": Task("t", (Message("user", "?"),))}, config_of(better="reference"), seed=0
    )
    assert unknown.skipped == {"no known answer": 1}


def test_labels_are_turned_round_as_often_as_asked_and_always_the_same() -> None:
    tasks = {str(i): Task(str(i), (Message("user", "?"),)) for i in range(400)}
    answers = [Sampled(name, i, text, float(i)) for name in tasks for i, text in enumerate(("no", "yes"))]
    one, same = (compare(answers, tasks, config_of(label_noise=0.25), seed=3).compared for _ in range(2))
    assert one == same
    flipped = [each.flipped[0] for each in one]
    assert 70 < sum(flipped) < 130
    for each in one:
        assert (each.answers[each.pairs[0].better] == "no") == each.flipped[0]
        assert each.pairs[0].margin == 1.0
    assert not any(each.flipped[0] for each in compare(answers, tasks, config_of(), seed=3).compared)
    assert flipped != [each.flipped[0] for each in compare(answers, tasks, config_of(label_noise=0.25), seed=4).compared]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": []}, "tasks is empty"),
        ({"graders": []}, "graders is empty"),
        ({"sampling": SamplingConfig()}, "sampling.samples is 1"),
        ({"label_noise": 1.5}, "label_noise is 1.5"),
        ({"margin": -1.0}, "margin is -1.0"),
        ({"better": "reference", "margin": 0.5}, "margin is 0.5"),
    ],
)
def test_settings_that_cannot_be_meant(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config_of(**changes)
