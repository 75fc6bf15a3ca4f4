"""Lookup, layout, length, language one by one, and what several graders make together."""

from __future__ import annotations

import asyncio
import math
from array import array
from pathlib import Path

import pytest

from posttrain.core.config import FormatGrader, FunctionGrader, GraderConfig, LanguageGrader, LengthGrader, LookupGrader, MathGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Message, Rollout, Sampling, Task, TokenRow
from posttrain.graders import Composite, build, grade_text

GOOD = "<think>7+5=12</think>\n<answer>42</answer>"


def task(answer: str | None = "42", **metadata: object) -> Task:
    return Task("t", (Message("user", "?"),), answer, metadata=metadata)


def rollout(text: str, written: int = 5, **changes: object) -> Rollout:
    row = TokenRow(
        array("i", range(written + 3)),
        array("b", [0] * 3 + [1] * written),
        array("f", [0.0] * (written + 3)),
        array("i", [0] * (written + 3)),
    )
    fields = {"messages": (Message("user", "?"), Message("assistant", text)), "status": "done", **changes}
    return Rollout(task(), 0, rows=(row,), sampling=Sampling(), **fields)  # type: ignore[arg-type]


def judge(configs: list[GraderConfig], attempt: Rollout, base: Path = Path()) -> Grade:
    composite = build(configs, base=base)
    try:
        return asyncio.run(composite(task(), attempt))
    finally:
        composite.close()


@pytest.mark.parametrize(
    ("answer", "text", "passed"),
    [
        ("Paris", "<answer>Paris</answer>", True),
        ("Paris", "The capital is\n  paris. ", True),
        ("Paris", "<answer>“PARIS”</answer>", True),
        ("New York", "new   york", True),
        ("Paris", "<answer>Paris, France</answer>", False),
        ("Paris", "<answer>Lyon or Paris</answer>", False),
        ("Paris", "<answer>Paris</answer> or <answer>Lyon</answer>", False),
        ("Paris", "Paris\nLyon", False),
        ("Paris", "It is Paris", False),
        ("Paris", "<think>Paris</think>", False),
        ("Paris", "", False),
        ("Paris", "<answer> </answer>", False),
        ("Roma", "<answer>Rome</answer>", True),
    ],
)
def test_lookup(answer: str, text: str, passed: bool) -> None:
    grade = grade_text(LookupGrader(), task(answer, aliases=["Rome"]), text)
    assert (grade.passed, grade.score) == (passed, float(passed))


def test_lookup_keeps_case_where_the_task_is_about_it() -> None:
    assert grade_text(LookupGrader(), task("CAT"), "cat").passed
    assert not grade_text(LookupGrader(), task("CAT", case_sensitive=True), "cat").passed


def test_lookup_without_a_usable_reference_gives_no_score() -> None:
    assert grade_text(LookupGrader(), task(None), "x").status == "unscored"
    assert grade_text(LookupGrader(), task("x", aliases="y"), "x").status == "error"


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        (GOOD, True),
        ("  <think>a</think><answer>b</answer>\n", True),
        ("<think>a</think>so <answer>b</answer>", False),
        ("<think>a</think><answer>b</answer> done", False),
        ("Hm <think>a</think><answer>b</answer>", False),
        ("<think>a</think><answer>b</answer><answer>b</answer>", False),
        ("<think>a<think>b</think></think><answer>b</answer>", False),
        ("<answer>b</answer><think>a</think>", False),
        ("<think>a<answer>b</answer></think>", False),
        ("<think></think><answer>b</answer>", False),
        ("<think>a</think><answer> </answer>", False),
        ("<think>a</think>", False),
        ("42", False),
    ],
)
def test_think_answer_layout(text: str, passed: bool) -> None:
    assert grade_text(FormatGrader(), task(), text).passed is passed


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        (r"So \boxed{42}.", True),
        (r"<think>\boxed{1}</think>So \boxed{42}", True),
        (r"\boxed{\frac{1}{2}}", True),
        (r"\boxed{1} \boxed{1}", False),
        ("\\boxed{42}\n\nAnd more.", False),
        (r"\boxed{}", False),
        (r"\boxed{42", False),
        ("42", False),
    ],
)
def test_boxed_layout(text: str, passed: bool) -> None:
    assert grade_text(FormatGrader(layout="boxed"), task(), text).passed is passed


@pytest.mark.parametrize(
    ("written", "score", "passed"), [(1, 1.0, True), (100, 1.0, True), (150, 0.5, True), (200, 0.0, False), (900, 0.0, False)]
)
def test_length(written: int, score: float, passed: bool) -> None:
    grade = judge([LengthGrader(soft=100, hard=200)], rollout("x", written))
    assert (grade.score, grade.passed) == (score, passed)
    assert grade_text(LengthGrader(soft=100, hard=200), task(), "x", written=written).score == score


def test_length_of_plain_text_is_not_guessed() -> None:
    assert grade_text(LengthGrader(), task(), "some words").status == "unscored"


ENGLISH = "First we add the two numbers. Then we see that the answer is forty two, because there are no others."
GERMAN = "Zuerst addieren wir die beiden Zahlen. Dann sehen wir, dass die Antwort zweiundvierzig ist, weil es keine andere gibt."
FRENCH = "Nous additionnons les deux nombres. La réponse est quarante-deux, donc il est clair que ce n'est pas une erreur."
CHINESE = "首先我们把两个数字相加。答案是四十二。"
RUSSIAN = "Сначала мы складываем два числа. Ответ сорок два."
JAPANESE = "まず二つの数を足します。答えは四十二です。"
TEXTS = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "zh": CHINESE, "ru": RUSSIAN, "ja": JAPANESE}


@pytest.mark.parametrize("language", TEXTS)
def test_language_tells_these_apart(language: str) -> None:
    for written, text in TEXTS.items():
        grade = grade_text(LanguageGrader(language=language), task(), text)
        assert grade.passed is (written == language), (language, written, grade)


def test_language_is_a_share() -> None:
    mixed = "The answer is in the box.首先我们"
    grade = grade_text(LanguageGrader(), task(), mixed)
    assert grade.score == 6 / 10
    assert grade.passed is False
    assert grade_text(LanguageGrader(), task(), "<think>7+5=12</think><answer>42</answer>").score == 1.0


def test_unknown_language_is_told_when_built() -> None:
    with pytest.raises(UserError, match=r"xx.*Known: .*en"):
        build([LanguageGrader(language="xx")], base=Path())


def test_weighted_sum_by_hand() -> None:
    grade = judge([MathGrader(weight=2.0), FormatGrader(weight=0.5), LengthGrader(weight=0.1, soft=4, hard=14)], rollout(GOOD, 9))
    assert grade.score == pytest.approx(2.0 + 0.5 + 0.1 * 0.5)
    assert dict(grade.parts) == {"math": 1.0, "format": 1.0, "length": 0.5}
    assert (grade.passed, grade.answer, grade.status) == (True, "42", "scored")


def test_passed_follows_correctness_and_not_style() -> None:
    grade = judge([MathGrader(), FormatGrader()], rollout("42"))
    assert (grade.passed, grade.score) == (True, 1.0)
    grade = judge([MathGrader(), FormatGrader()], rollout(GOOD.replace("42", "41")))
    assert (grade.passed, grade.score) == (False, 1.0)
    assert "math" in grade.explanation
    assert judge([FormatGrader(), LengthGrader(soft=1, hard=2)], rollout(GOOD, 5)).passed is False
    assert judge([FormatGrader(), LengthGrader()], rollout(GOOD, 5)).passed is True


def test_a_gate_shuts_the_score_and_the_verdict() -> None:
    shut = judge([MathGrader(), FormatGrader(gate=True)], rollout("42"))
    assert (shut.score, shut.passed, dict(shut.parts)) == (0.0, False, {"math": 1.0, "format": 0.0})
    open_gate = judge([MathGrader(), FormatGrader(gate=True, weight=5)], rollout(GOOD))
    assert (open_gate.score, open_gate.passed) == (1.0, True)


FUNCTIONS = """
def crash(task, answer): raise RuntimeError("boom")
def style(task, answer): return 0.5
def verdict(task, answer): return False
def great(task, answer): return 1e300
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    return tmp_path


def test_one_broken_part_makes_the_whole_an_error(folder: Path) -> None:
    grade = judge([MathGrader(), FunctionGrader(path="mine.py:crash", weight=0.01)], rollout(GOOD), folder)
    assert (grade.status, grade.score, grade.passed, grade.answer) == ("error", None, None, "42")
    assert dict(grade.parts) == {"math": 1.0, "function": None}
    assert "function: mine.py:crash raised RuntimeError: boom" in grade.explanation
    assert "math" in grade.parts
    gate = judge([MathGrader(), FunctionGrader(path="mine.py:crash", gate=True)], rollout(GOOD), folder)
    assert gate.status == "error"


def test_a_part_of_weight_zero_only_watches(folder: Path) -> None:
    grade = judge([MathGrader(), FunctionGrader(path="mine.py:crash", weight=0)], rollout(GOOD), folder)
    assert (grade.status, grade.score, grade.passed) == ("scored", 1.0, True)
    assert dict(grade.parts) == {"math": 1.0, "function": None}


def test_functions_decide_only_with_a_verdict(folder: Path) -> None:
    assert judge([MathGrader(), FunctionGrader(path="mine.py:style")], rollout(GOOD), folder).passed is True
    assert judge([MathGrader(), FunctionGrader(path="mine.py:verdict")], rollout(GOOD), folder).passed is False
    assert judge([FunctionGrader(path="mine.py:style")], rollout(GOOD), folder).passed is None
    grade = judge([MathGrader(), FunctionGrader(path="mine.py:style", gate=True)], rollout(GOOD), folder)
    assert grade.status == "error"
    assert "without a verdict" in grade.explanation


def test_two_of_a_kind_keep_their_own_parts_and_sums_stay_finite(folder: Path) -> None:
    configs: list[GraderConfig] = [FunctionGrader(path="mine.py:great", weight=1e300), FunctionGrader(path="mine.py:style")]
    grade = judge(configs, rollout(GOOD), folder)
    assert set(grade.parts) == {"function", "function_2"}
    assert grade.score is not None
    assert math.isfinite(grade.score)
    assert array("f", [grade.score])[0] < math.inf


def test_failed_rollouts_and_unknown_references_are_unscored() -> None:
    grade = judge([MathGrader()], rollout("42", status="failed", failure="the engine stopped"))
    assert grade.status == "unscored"
    assert "the engine stopped" in grade.explanation
    composite = build([MathGrader(), FormatGrader()], base=Path())
    grade = asyncio.run(composite(task(None), rollout(GOOD)))
    assert (grade.status, grade.score, dict(grade.parts)) == ("unscored", None, {"math": None, "format": 1.0})


def test_reasoning_kept_apart_by_the_template_counts_for_the_layout() -> None:
    apart = rollout("", messages=(Message("user", "?"), Message("assistant", "<answer>42</answer>", thinking="7+5=12")))
    assert judge([MathGrader(), FormatGrader()], apart).score == 2.0
    silent = rollout("", messages=(Message("user", "?"),))
    assert judge([MathGrader()], silent).score == 0.0


def test_graders_that_could_never_score_are_refused() -> None:
    for configs in ([], [FormatGrader(gate=True)], [MathGrader(weight=0)]):
        with pytest.raises(UserError):
            build(configs, base=Path())


def test_building_starts_no_process() -> None:
    composite = build([MathGrader()], base=Path())
    assert isinstance(composite, Composite)
    assert composite.parts[0].pool is not None
    assert composite.parts[0].pool.workers == []
    assert asyncio.run(composite(task(), rollout(GOOD))).passed  # decided without one
    assert composite.parts[0].pool.workers == []
