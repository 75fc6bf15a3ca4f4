"""The report on labelled answers: counted by hand, complete, and honest about the cases that fail."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from posttrain.core.config import FormatGrader
from posttrain.core.errors import UserError
from posttrain.core.statistics import wilson
from posttrain.core.types import Grade
from posttrain.graders import error_rates
from posttrain.graders.error_rates import Case, made, read, report


def test_faults_are_counted_apart() -> None:
    cases = [
        Case(right, "x", "t", "s", f"p:{number}") for number, right in enumerate([True, True, True, False, False, False, False])
    ]
    passed = [True, False, None, True, False, False, None]
    grades = [Grade(None, None, "error") if each is None else Grade(float(each), each) for each in passed]
    found = made("format", cases, grades, 10.0)
    assert (found.false_accepts, found.false_rejects, found.no_verdict) == (wilson(1, 4), wilson(1, 3), wilson(2, 7))
    assert [(case["place"], case["fault"]) for case in found.failing] == [
        ("p:1", "false reject"), ("p:2", "no verdict"), ("p:3", "false accept"), ("p:6", "no verdict"),
    ]  # fmt: skip
    assert json.loads(json.dumps(found.to_json()))["false_accepts"]["n"] == 4


@pytest.mark.parametrize("kind", error_rates.SETTINGS)
def test_sets_are_large_enough_and_without_doubles(kind: str) -> None:
    cases = read(kind)
    assert len(cases) >= (100 if kind == "math" else 40)
    assert all(case.source and case.trap for case in cases)
    doubles = Counter(json.dumps([c.reference, c.text, c.question, c.metadata, c.settings], sort_keys=True) for c in cases)
    assert max(doubles.values()) == 1
    assert 0.2 < sum(case.right for case in cases) / len(cases) < 0.8


def test_the_report_of_a_verifier_without_processes() -> None:
    found = report("format")
    assert found.cases == len(read("format")) and found.failing == () and found.exact_checks_per_s is None
    assert found.false_accepts.value == 0.0 and found.false_accepts.high is not None and found.checks_per_s > 0
    assert isinstance(FormatGrader(**read("format")[0].settings), FormatGrader)


def test_the_exact_path_is_timed_without_a_process() -> None:
    assert error_rates.exact_speed(read("math")[:60]) > 0


def test_a_grader_without_a_set_says_which_have_one() -> None:
    with pytest.raises(UserError, match=r"length has no labelled set.*format.*math"):
        report("length")
