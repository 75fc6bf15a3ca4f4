"""Who decides is the tester: honest solutions pass, and no solution gets a verdict that it has not earned."""

from __future__ import annotations

import json

import pytest
from sandbox.attacks import ATTACKS, CALLS, HONEST, TESTS

from posttrain.sandbox import Limits
from posttrain.sandbox.pool import Pool
from posttrain.sandbox.verdicts import check_functions, check_outputs

LIMITS = Limits(cpu_s=1, wall_s=0.7, memory_bytes=256 << 20)


@pytest.mark.parametrize("tests", [TESTS, CALLS], ids=["check", "calls"])
def test_the_honest_solution_passes(pool: Pool, tests: dict[str, object]) -> None:
    verdict = pool.submit(lambda supervisor: check_functions(supervisor, HONEST, tests, limits=LIMITS)).result()
    assert verdict.passed and verdict.share == 1


def test_no_attack_passes_a_check(pool: Pool) -> None:
    no_attack_passes(pool, TESTS)


def test_no_attack_passes_calls(embedded: Pool) -> None:
    no_attack_passes(embedded, CALLS)


def no_attack_passes(pool: Pool, tests: dict[str, object]) -> None:
    asked = {
        name: pool.submit(lambda supervisor, source=source: check_functions(supervisor, source, tests, limits=LIMITS))
        for name, source in ATTACKS.items()
    }
    verdicts = {name: future.result() for name, future in asked.items()}
    assert not {name: verdict for name, verdict in verdicts.items() if verdict.passed}
    json.dumps([each.why for verdict in verdicts.values() for each in verdict.tests], ensure_ascii=False).encode("utf-8")
    undecided = {name: verdict for name, verdict in verdicts.items() if verdict.status != "decided"}
    assert not undecided, "a solution must not be able to break the tests into giving no score"


def test_one_right_answer_of_three_is_a_third(pool: Pool) -> None:
    source = "def double(n): return 42"
    verdict = pool.submit(lambda supervisor: check_functions(supervisor, source, CALLS, limits=LIMITS)).result()
    assert [each.passed for each in verdict.tests] == [True, False, False] and not verdict.passed
    assert verdict.share == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("call", "source", "passed"),
    [
        ({"args": [[1, 2]], "expected": [1, 2]}, "def f(x): return tuple(x)", True),
        ({"args": [1], "expected": 1}, "def f(x): return True", False),
        ({"args": [1], "expected": 1}, "def f(x): return 1.0", True),
        ({"args": [1], "expected": 0.3}, "def f(x): return 0.1 + 0.2", False),
        ({"args": [], "raises": "ValueError"}, "def f(): raise ValueError('no')", True),
        ({"args": [], "raises": "LookupError"}, "def f(): return {}[1]", True),
        ({"args": [], "raises": "ValueError"}, "def f(): return 1", False),
        ({"args": [], "kwargs": {"a": {"b": None}}, "expected": {"b": None}}, "def f(*, a): return a", True),
        ({"args": [], "expected": "é\u0000"}, "def f(): return 'é\\0'", True),
    ],
)
def test_what_counts_as_equal(pool: Pool, call: dict[str, object], source: str, passed: bool) -> None:
    tests = {"functions": ["f"], "calls": [call]}
    assert pool.submit(lambda supervisor: check_functions(supervisor, source, tests, limits=LIMITS)).result().passed is passed


def test_a_tolerance_is_only_for_numbers(pool: Pool) -> None:
    tests = {"functions": ["f"], "calls": [{"args": [], "expected": 0.3}], "tolerance": 1e-9}
    found = [
        pool.submit(lambda supervisor, source=source: check_functions(supervisor, source, tests, limits=LIMITS)).result().passed
        for source in ("def f(): return 0.1 + 0.2", "def f(): return 0.31", "def f(): return '0.3'", "def f(): return float('nan')")
    ]
    assert found == [True, False, False, False]


@pytest.mark.parametrize("check", ["this is no Python", "assert 1 == 2", "x = 1", "import not_there"])
def test_tests_that_ask_nothing_are_broken_and_give_no_score(pool: Pool, check: str) -> None:
    tests = {"functions": ["double"], "check": check}
    verdict = pool.submit(lambda supervisor: check_functions(supervisor, HONEST, tests, limits=LIMITS)).result()
    assert verdict.status == "broken" and not verdict.passed


def test_asserts_in_the_form_of_mbpp(pool: Pool) -> None:
    tests = {"functions": ["double"], "check": "assert double(2) == 4\nassert double(-1) == -2"}
    good, bad = (
        pool.submit(lambda supervisor, source=source: check_functions(supervisor, source, tests, limits=LIMITS)).result()
        for source in (HONEST, "def double(n): return 4")
    )
    assert good.passed and not bad.passed and "line 2" in bad.tests[0].why


def test_input_and_output(pool: Pool) -> None:
    cases = [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "5 5", "stdout": "10"}]
    sources = {
        "right": "print(sum(map(int, input().split())), ' ')",
        "wrong": "print(3)",
        "crashes": "1 / 0",
        "silent": "",
        "knows": "import sys, os\nprint(open('/proc/self/fd/0').read())",
    }
    found = {
        name: pool.submit(lambda supervisor, source=source: check_outputs(supervisor, source, cases, limits=LIMITS)).result()
        for name, source in sources.items()
    }
    assert found["right"].passed and not any(verdict.passed for name, verdict in found.items() if name != "right")
    assert found["wrong"].share == 0.5 and "ZeroDivisionError" in found["crashes"].tests[0].why
