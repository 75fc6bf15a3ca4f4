"""Failure codes, counts by slice, changes, advice and the data patch, with numbers worked by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from posttrain.diagnosis import CODES, diagnose, failure_code, patch, task_weight
from posttrain.evaluation.statistics import wilson
from tests.diagnosis.factory import record

FAILED = record(passed=False)
LOOP = "the answer is then " * 20


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "wrong"),
        ({"passed": True}, None),
        ({"passed": None, "score": 0.7}, None),  # a reward model's score: neither right nor wrong
        ({"grade_status": "error", "passed": None, "score": None}, "grader_error"),
        ({"grade_status": "unscored", "passed": None, "score": None}, "grader_error"),
        ({"rollout_status": "failed", "finish": "abort"}, "grader_error"),
        ({"completion": "I'm sorry, but I can't help with that.", "answer": None}, "refusal"),
        ({"completion": "<think>hm</think> I cannot do this", "answer": None}, "refusal"),
        ({"completion": "I can see that 1 + 1 is <answer>3</answer>"}, "wrong"),
        ({"completion": "答案是三因为我们把两个数加起来得到三"}, "wrong_language"),
        ({"completion": "The answer is 三"}, "wrong"),
        ({"completion": "Die Antwort ist 3", "parts": {"language": 0.1}}, "wrong_language"),
        ({"completion": "答案是三因为我们把两个数加起来得到三", "parts": {"language": 0.9}}, "wrong"),
        ({"completion": LOOP, "finish": "length", "rollout_status": "truncated"}, "repetition"),
        ({"completion": "First we add one and", "finish": "length", "rollout_status": "truncated", "answer": None}, "truncated"),
        ({"completion": "It is easy.", "answer": None}, "format"),
        ({"completion": "", "answer": None}, "format"),
        ({"completion": "4 steps\nso it is 2 (step 3)", "answer": "3"}, "format"),  # right, but elsewhere
        ({"completion": "so it is 12 or 2.5, <answer>3</answer>", "answer": "3"}, "wrong"),  # 12 and 2.5 are not 2
        ({"completion": "2 is wrong: 3", "answer": "3", "prompt": [{"role": "user", "content": "2?"}]}, "wrong"),
    ],
)
def test_failure_code(changes: dict[str, object], code: str | None) -> None:
    assert failure_code(replace(FAILED, **changes)) == code


def test_a_russian_prompt_may_be_answered_in_russian() -> None:
    asked = replace(FAILED, prompt=[{"role": "user", "content": "Сколько будет один плюс один?"}])
    assert failure_code(replace(asked, completion="Один плюс один будет три")) == "wrong"
    assert failure_code(replace(asked, completion="It makes three of course")) == "wrong_language"


def mixed() -> list:
    """10 additions, 2 of them wrong; 5 multiplications, 4 wrong and 1 without a verdict."""
    rows = [record(f"a{i}", passed=i >= 2) for i in range(10)]
    rows += [record(f"m{i}", passed=False, slices={"operation": "multiply"}) for i in range(4)]
    return [*rows, record("m4", passed=None, slices={"operation": "multiply"})]


def test_counts_by_slice_and_code() -> None:
    suite = diagnose(mixed()).suites["sums"]
    assert (suite.rollouts, suite.judged, suite.failed) == (15, 14, 6)
    cells = {(c.slice, c.code): c for c in suite.cells}
    assert {key: (c.count, c.of) for key, c in cells.items()} == {
        ("all", "wrong"): (6, 14),
        ("all", "grader_error"): (1, 15),
        ("operation=add", "wrong"): (2, 10),
        ("operation=multiply", "wrong"): (4, 4),
        ("operation=multiply", "grader_error"): (1, 5),
    }
    assert cells["all", "wrong"].share == wilson(6, 14)
    assert (suite.slices["operation=multiply"].judged, suite.slices["operation=multiply"].failed) == (4, 4)


def test_examples_are_bounded_spread_and_repeatable() -> None:
    rows = [record(f"t{i}", passed=False) for i in range(50)]
    first, again = diagnose(rows), diagnose(list(reversed(rows)))
    cell = first.suites["sums"].cells[0]
    assert len(cell.examples) == 5
    assert set(cell.examples) <= set(first.suites["sums"].examples)
    assert cell.examples == again.suites["sums"].cells[0].examples
    assert cell.examples != tuple(f"t{i}#0" for i in range(5))
    assert len(diagnose(rows, examples=2).suites["sums"].cells[0].examples) == 2


def test_changes_against_an_earlier_evaluation() -> None:
    before = [record("a", passed=False), record("b"), record("c", passed=False), record("d")]
    after = [record("a"), record("b", passed=False), record("c", passed=False), record("d")]
    change = diagnose(after, before=before).suites["sums"].change
    assert change is not None
    assert (change.tasks.fixed, change.tasks.regressed) == (("a",), ("b",))
    assert (change.tasks.still_wrong, change.tasks.still_right) == (("c",), ("d",))
    assert change.test.p_value == 1.0
    ((was, is_now),) = change.fixed
    assert (was.completion, is_now.completion) == ("<answer>3</answer>", "<answer>2</answer>")
    ((was, is_now),) = change.regressed
    assert (was.code, is_now.code) == (None, "wrong")


def test_a_fixed_task_with_several_samples_shows_a_failure_before_and_a_success_after() -> None:
    before = [record("a", passed=i == 0, sample=i, completion=f"before {i}") for i in range(4)]
    after = [record("a", passed=i != 0, sample=i, completion=f"after {i}") for i in range(4)]
    change = diagnose(after, before=before).suites["sums"].change
    assert change is not None
    ((was, is_now),) = change.fixed
    assert (was.completion, is_now.completion) == ("before 1", "after 1")


def test_advice_names_the_slice_that_stands_out() -> None:
    advice = diagnose(mixed()).suites["sums"].advice
    assert (
        advice[0].startswith("6 of 14 answers gave a wrong answer, most in operation=multiply (4 of 4)") is False
    )  # 4 are too few
    rows = [record(f"a{i}", passed=i >= 2) for i in range(30)]
    rows += [record(f"m{i}", passed=False, slices={"operation": "multiply"}) for i in range(10)]
    advice = diagnose(rows).suites["sums"].advice
    assert advice == [
        "12 of 40 answers gave a wrong answer, most in operation=multiply (10 of 10): train on more tasks like these."
    ]
    assert diagnose([record("a")]).suites["sums"].advice == []


def test_advice_on_what_was_lost() -> None:
    advice = diagnose([record("a", passed=False)], before=[record("a")]).suites["sums"].advice
    assert advice[-1] == "1 of 1 tasks that were right before are wrong now: mix earlier training data back in."


def test_patch_weights_by_hand() -> None:
    # add: (2+1)/(10+2) = 0.25; multiply: (4+1)/(4+2) = 0.8333; mean 0.541667. The one without a verdict counts nowhere.
    weights = patch(diagnose(mixed()), floor=0.2)
    assert weights["operation=add"] == pytest.approx(0.2 + 0.8 * 0.25 / 0.5416667)
    assert weights["operation=multiply"] == pytest.approx(0.2 + 0.8 * 0.8333333 / 0.5416667)
    assert sum(weights.values()) == pytest.approx(2)
    assert patch(diagnose(mixed()), floor=1.0) == {"operation=add": 1.0, "operation=multiply": 1.0}
    with pytest.raises(ValueError, match="floor is 2"):
        patch(diagnose(mixed()), floor=2)


def test_task_weight_is_a_product_over_dimensions() -> None:
    weights = {"operation=add": 0.5, "digits=2": 3.0}
    assert task_weight({"operation": "add", "digits": "2"}, weights) == 1.5
    assert task_weight({"operation": "divide", "digits": "2"}, weights) == 3.0
    assert task_weight({}, weights) == 1.0


def test_to_json_is_plain() -> None:
    plain = diagnose(mixed(), before=mixed()).to_json()
    assert json.loads(json.dumps(plain, allow_nan=False))["suites"]["sums"]["slices"]["all"]["failed"] == 6


def test_nothing_to_diagnose() -> None:
    assert diagnose([]).suites == {}
    assert patch(diagnose([])) == {}
    suite = diagnose([record(passed=None)]).suites["sums"]
    assert suite.judged == 0 and suite.slices["all"].failure.value is None


def test_every_code_has_advice() -> None:
    from posttrain.diagnosis.advice import REMEDY, SEEN

    assert set(CODES) == set(SEEN) == set(REMEDY)
