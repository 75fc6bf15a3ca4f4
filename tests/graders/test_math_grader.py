"""The math grader against a labelled set of our own, and around it: extraction, limits, no reference."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from posttrain.core.config import MathGrader
from posttrain.core.types import Grade, Message, Task
from posttrain.graders import Composite, build, grade_text
from tests.graders.pairs import DIFFERENT, HEDGES_AND_JUNK, KNOWN_TRAPS, SAME

NOT_SAME = [*KNOWN_TRAPS, *HEDGES_AND_JUNK, *DIFFERENT]


def task(answer: str | None, name: str = "t") -> Task:
    return Task(name, (Message("user", "?"),), answer)


@pytest.fixture(scope="module")
def grader() -> Iterator[Composite]:
    composite = build([MathGrader(timeout_s=30)], base=Path())
    yield composite
    composite.close()


def grades(grader: Composite, pairs: list[tuple[str, str]]) -> list[Grade]:
    async def all_of_them() -> list[Grade]:
        return await asyncio.gather(*(grader.text(task(gold), f"So \\boxed{{{answer}}}") for gold, answer in pairs))

    return asyncio.run(all_of_them())


def test_error_rates_on_the_labelled_set(grader: Composite) -> None:
    """No wrong answer passes, no check breaks, and at most 2 in 100 right answers are missed."""
    assert len(SAME) + len(NOT_SAME) >= 140
    accepted = [pair for pair, grade in zip(NOT_SAME, grades(grader, NOT_SAME), strict=True) if grade.passed is not False]
    assert accepted == []
    right = grades(grader, SAME)
    assert [grade.explanation for grade in right if grade.status != "scored"] == []
    missed = [pair for pair, grade in zip(SAME, right, strict=True) if not grade.passed]
    assert len(missed) <= 0.02 * len(SAME), missed


@pytest.mark.parametrize("pair", KNOWN_TRAPS)
def test_known_false_accepts_are_refused(grader: Composite, pair: tuple[str, str]) -> None:
    (grade,) = grades(grader, [pair])
    assert grade.passed is False
    assert grade.score == 0.0


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        (r"\boxed{42}", True),
        ("The answer is 42.", True),
        ("<answer>42</answer>", True),
        (r"<answer>\boxed{42}</answer>", True),
        (r"<think>maybe \boxed{41}</think><answer>42</answer>", True),
        ("17 + 25 = 42", True),
        ("Add 17 and 25\n42", True),
        ("42, 43 or 44? I choose 42", True),
        (r"\boxed{42} and again \boxed{42.0}", True),
        (r"\boxed{42} is the answer, since 17+25=42.", True),
        ("First 4 tens, then 2 ones: 42", True),
        ("**Answer: 42**", True),
        (r"\boxed{42}\boxed{43}", False),
        (r"\boxed{43} or \boxed{42}", False),
        (r"\boxed{42} Actually the answer is 43", False),
        (r"\boxed{42}. No, it is rather 43.", False),
        ("<answer>43</answer><answer>42</answer>", False),
        (r"<answer>43</answer> \boxed{42}", False),
        ("It may be 41, 43, or 42", False),
        ("41 42", False),
        ("41\n43\n42", False),
        ("- 41\n- 42", False),
        ("1. 41\n2. 42", False),
        ("It is 43. Or 42.", False),
        ("It is 43. Maybe it is 42", False),
        ("The answer is not 42", False),
        ("<think>It is 42", False),
        ("<think>It is 42</think>", False),
        (r"\boxed{}", False),
        (r"\boxed{42", False),
        (r"\boxed{42} so \boxed{4", False),
        ("<answer>42", False),
        ("", False),
        ("no idea", False),
    ],
)
def test_one_answer_or_none(text: str, passed: bool) -> None:
    grade = grade_text(MathGrader(), task("42"), text)
    assert (grade.passed, grade.status) == (passed, "scored")
    assert passed or grade.explanation


def test_extract_setting_decides_where_to_look() -> None:
    text = r"<answer>1</answer>"
    assert grade_text(MathGrader(extract="answer_tag"), task("1"), text).passed
    assert not grade_text(MathGrader(extract="boxed"), task("1"), text).passed
    assert grade_text(MathGrader(extract="last_number"), task("3"), r"\boxed{1} and then 3").passed
    assert not grade_text(MathGrader(extract="boxed"), task("42"), r"\boxed{42").passed


def test_no_reference_is_no_score() -> None:
    assert grade_text(MathGrader(), task(None), "42").status == "unscored"
    assert grade_text(MathGrader(), task(" "), "42").status == "unscored"


def test_a_reference_that_nothing_can_read_is_no_score(grader: Composite) -> None:
    (grade,) = grades(grader, [(r"\oiint_{\Sigma} \star", r"x+1")])
    assert (grade.status, grade.score) == ("unscored", None)


@pytest.mark.parametrize(
    "answer", ["9^{9^9}", "(10^9)!", "x" * 600, "(" * 40 + "1" + ")" * 40, "10^{10000000}", "1" * 200, "9!!!!!"]
)
def test_too_large_is_decided_at_once_and_is_wrong(answer: str) -> None:
    grade = grade_text(MathGrader(timeout_s=0.001), task("27"), f"\\boxed{{{answer}}}")
    assert grade.passed is False


def test_hostile_text_never_raises(grader: Composite) -> None:
    texts = [
        "\\boxed{" * 500,
        "\\boxed{\ud800}",
        "\x00\\boxed{\x00}",
        "{" * 5000,
        "\\boxed{\\frac{}{}}",
        "\\boxed{\\sqrt}",
        "\\boxed{^}",
    ]

    async def all_of_them() -> list[Grade]:
        return await asyncio.gather(*(grader.text(task("42"), text) for text in texts))

    assert [grade.passed for grade in asyncio.run(all_of_them())] == [False] * len(texts)


def test_usable_from_inside_a_running_event_loop() -> None:
    async def notebook() -> Grade:
        return grade_text(MathGrader(), task(r"2\sqrt{2}"), r"\boxed{\sqrt 8}")

    assert asyncio.run(notebook()).passed
