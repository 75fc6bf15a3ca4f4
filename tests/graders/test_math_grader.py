"""The math grader against a labelled set of our own, and around it: extraction, limits, no reference."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from posttrain.core.config import MathGrader
from posttrain.core.types import Grade, Message, Task
from posttrain.graders import Composite, build, grade_text
from posttrain.graders.error_rates import Case, read

CASES = read("math")
KNOWN_TRAPS = [case for case in CASES if case.trap == "math-verify"]


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


def verdicts(grader: Composite, cases: list[Case]) -> list[Grade]:
    async def all_of_them() -> list[Grade]:
        return await asyncio.gather(*(grader.text(case.task, case.text) for case in cases))

    return asyncio.run(all_of_them())


def test_no_labelled_wrong_answer_passes_and_few_right_ones_are_missed(grader: Composite) -> None:
    """At most 4 wrong answers get no verdict and 10 in 100 right ones, notations among them that few graders read, none."""
    wrong, right = [case for case in CASES if not case.right], [case for case in CASES if case.right]
    assert len(wrong) >= 250 and len(right) >= 150
    judged = list(zip(wrong, verdicts(grader, wrong), strict=True))
    assert [(case.place, case.text) for case, grade in judged if grade.passed] == []
    assert sum(grade.passed is None for _, grade in judged) <= 4
    missed = [case.text for case, grade in zip(right, verdicts(grader, right), strict=True) if not grade.passed]
    assert len(missed) <= 0.1 * len(right), missed


@pytest.mark.parametrize("case", KNOWN_TRAPS, ids=lambda case: case.text)
def test_known_false_accepts_are_refused(grader: Composite, case: Case) -> None:
    (grade,) = verdicts(grader, [case])
    assert (grade.passed, grade.score, grade.status) == (False, 0.0, "scored")


def test_math_verify_alone_would_accept_most_of_them() -> None:
    """So the traps are real: without the numbers of ours, the library that we use says yes."""
    import math_verify

    assert len(KNOWN_TRAPS) >= 15
    settings = [math_verify.LatexExtractionConfig()]
    read_as = [
        tuple(math_verify.parse(f"\\boxed{{{side}}}", settings, parsing_timeout=None) for side in (case.reference, case.text[7:-1]))
        for case in KNOWN_TRAPS
    ]
    assert sum(bool(math_verify.verify(*pair, timeout_seconds=None)) for pair in read_as) >= 9


@pytest.mark.parametrize(
    ("question", "reference", "answer", "passed"),
    [
        ("What is 17 + 25?", "42", "17+25", False),
        ("What is 17 + 25?", "42", "20 + 22", False),
        ("What is 17 + 25?", "42", "17+25=42", True),
        ("What is 144/12?", "12", r"\frac{144}{12}", False),
        ("What is 144/12?", "12", r"\frac{12}{1}", True),
        ("What is 12/144?", "1/12", "12/144", True),
        ("Simplify 12/16.", "3/4", "6/8", False),
        ("Simplify 12/16.", "3/4", "0.75", True),
        ("Write 0.75 as a fraction.", "3/4", "0.75", False),
        ("A coin shows heads with p=0.5. How likely is heads?", "1/2", "0.5", True),
        (r"What is $\sqrt{16}$?", "4", r"\sqrt{16}", False),
        ("What is the root of 16?", "4", r"\sqrt{16}", True),
        ("What is 2x+x?", "3x", "2x + x", False),
        ("What is 12x+x?", "13x", "2x + 11x", True),
        ("What is f(3)?", "5", r"\phantom{5}", False),
        ("What is 3 - 1.5e1?", "-12", "-12", True),
    ],
)
def test_handing_the_question_back_is_no_answer(question: str, reference: str, answer: str, passed: bool) -> None:
    asked = Task("t", (Message("user", question),), reference)
    assert grade_text(MathGrader(timeout_s=30), asked, f"\\boxed{{{answer}}}").passed is passed


@pytest.mark.parametrize(
    ("reference", "answer", "passed"),
    [
        ("3 km", "3000 m", True), ("3 km", "3000 mm", False), ("20 mph", "20 miles per hour", True), (r"\$0.25", "25 cents", True),
        (r"\$5", "5 cents", False), (r"90^\circ", "90 degrees", True), (r"90^\circ", "90 cm", False), ("5 m", "5 meters", True),
        (r"0.1\overline{6}", "1/6", True), (r"0.\overline{3}", "0.333", False), ("101_2", "101_{2}", True), ("101_2", "5", False),
    ],
)  # fmt: skip
def test_units_and_exact_numbers_need_no_process(reference: str, answer: str, passed: bool) -> None:
    """With a limit that no process could keep."""
    assert grade_text(MathGrader(timeout_s=1e-6), task(reference), f"\\boxed{{{answer}}}").passed is passed


def test_a_check_waits_in_the_queue_without_its_clock_running() -> None:
    """Sixty checks for one process take longer than the limit of each, and none of them fails."""
    composite = build([MathGrader(timeout_s=1.5)], base=Path())
    pool = composite.parts[0].pool
    assert pool is not None
    pool.size = 1
    pairs = [(rf"\sin(2x)+{n}", rf"2\sin x\cos x+{n}") for n in range(200, 260)]
    try:
        grades(composite, [pairs[0]])
        begun = time.monotonic()
        found = grades(composite, pairs)
        took = time.monotonic() - begun
    finally:
        composite.close()
    assert {grade.status for grade in found} == {"scored"}, [grade.explanation for grade in found if grade.status != "scored"][:1]
    assert took > 0.2 and len(found) == 60


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
