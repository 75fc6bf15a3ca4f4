"""Lookup: every comparison and every setting, by hand, with the nearest wrong answer of each."""

from __future__ import annotations

from typing import Any

import pytest

from posttrain.core.config import LookupGrader
from posttrain.core.types import Grade, Message, Task
from posttrain.graders import grade_text
from posttrain.graders.error_rates import read


def graded(reference: str, text: str, *, aliases: tuple[str, ...] = (), **settings: Any) -> Grade:
    task = Task("t", (Message("user", "?"),), reference, metadata={"aliases": list(aliases)})
    return grade_text(LookupGrader(**settings), task, text)


@pytest.mark.parametrize("case", read("lookup"), ids=lambda case: case.place)
def test_labelled_answers(case: Any) -> None:
    assert grade_text(LookupGrader(**case.settings), case.task, case.text).passed is case.right


@pytest.mark.parametrize(
    ("reference", "text", "settings", "passed"),
    [
        ("100", "103", {"relative_tolerance": 0.03}, True),
        ("100", "103.0000001", {"relative_tolerance": 0.03}, False),
        ("-100", "-97", {"relative_tolerance": 0.03}, True),
        ("100", "101", {"relative_tolerance": 0.001, "absolute_tolerance": 1.0}, True),  # the larger one counts
        ("0", "0.001", {"relative_tolerance": 0.5}, False),  # a share of nothing is nothing
        ("1 km", "1004 m", {"absolute_tolerance": 0.005}, True),  # in the reference's unit
        ("1 km", "1006 m", {"absolute_tolerance": 0.005}, False),
        ("1 km", "1", {}, True),
        ("1 km", "1", {"unit_required": True}, False),
        ("1", "1 km", {"unit_required": True}, True),
    ],
)
def test_numbers_end_where_the_tolerance_says(reference: str, text: str, settings: dict[str, Any], passed: bool) -> None:
    assert graded(reference, text, compare="number", **settings).passed is passed


def test_a_reference_that_is_no_number_gives_no_score() -> None:
    assert graded("many", "5", compare="number").status == "unscored"
    assert graded("5", "7", aliases=("seven",), compare="number").status == "unscored"
    assert graded("5", "7", aliases=("7",), compare="number").passed is True


def test_f1_by_hand() -> None:
    """Shared words: 2; words: 3 and 4; F1 = 2*2/(3+4)."""
    grade = graded("red brown fox", "the red quick fox", compare="f1", pass_from=0.5)
    assert grade.score == pytest.approx(4 / 7) and grade.passed is True
    assert graded("red brown fox", "the red quick fox", compare="f1", pass_from=0.6).passed is False
    assert graded("a a b", "a a a", compare="f1", pass_from=0.1).score == pytest.approx(4 / 6)  # each word as often as it stands
    assert graded("x", "the red fox", aliases=("red fox",), compare="f1", pass_from=0.1).score == pytest.approx(4 / 5)
    assert graded("the fox", "fox", compare="f1", ignore=("articles",)).score == 1.0


def test_sets_and_lists_take_lines_and_any_separator() -> None:
    assert graded("a, b", "Here:\n- b\n- a", compare="set").passed is True
    assert graded("a, b", "Here:\n- b\n- a", compare="list").passed is False
    assert graded("a | b", "a|b", compare="list", separator="|").passed is True
    assert graded("a, b", "a|b", compare="list").passed is False
    assert graded("a, b", "<answer>b, a</answer>", compare="set").answer == "b, a"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pass_from": 0.5}, "pass_from is set, but compare is text"),
        ({"compare": "set", "absolute_tolerance": 1.0}, "absolute_tolerance is set"),
        ({"separator": ";"}, "expected compare: set or list"),
        ({"compare": "number", "ignore": ("accents",)}, "ignore is set"),
        ({"compare": "list", "separator": " "}, "separator is ' '"),
        ({"compare": "f1", "pass_from": 0.0}, "more than 0"),
        ({"compare": "number", "relative_tolerance": -1.0}, "expected 0 or more"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LookupGrader(**settings)
