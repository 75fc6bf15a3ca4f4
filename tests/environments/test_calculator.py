"""The calculator: right by hand and by Python's own fractions, and closed to everything that is not arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.environments.calculator import calculate, evaluate
from posttrain.environments.tools import Mistake


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1234 * 5678", "7006652"),
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("10 - 4 - 3", "3"),
        ("-2 ^ 2", "-4"),
        ("2 ** 3 ** 2", "512"),
        ("7 % 3", "1"),
        ("1 / 4", "0.25"),
        ("2 / 3", "0.666666666667"),
        ("0.1 + 0.2", "0.3"),
        (" 12 × 3 ÷ 4 − 1 ", "8"),
        ("--5", "5"),
        ("2^-1", "0.5"),
    ],
)
def test_by_hand(expression: str, value: str) -> None:
    assert calculate({"expression": expression}) == value


@given(
    st.recursive(st.integers(0, 999).map(str), lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner))
)
@settings(max_examples=200, deadline=None)
def test_as_python_works_it_out(expression: str) -> None:
    """Our own reader against Python's, on text that only holds numbers, signs and parentheses."""
    if len(expression) > 300:
        return
    assert evaluate(expression) == Fraction(eval(expression))


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "too early"),
        ("2 +", "too early"),
        ("(2", "not closed"),
        ("2)", "not expected"),
        ("2 3", "not expected"),
        ("1/0", "division by zero"),
        ("5 % 0", "division by zero"),
        ("0^-1", "division by zero"),
        ("2^0.5", "whole number"),
        ("9^9^9^9", "too large"),
        ("9" * 70, "too large"),
        ("1" + "+1" * 200, "longer than"),
        ("__import__('os').system('id')", "'_'"),
        ("1,234 * 2", "','"),
        ("abs(1)", "'a'"),
        ("1e9", "'e'"),
        ("٣ * 2", "'٣'"),
    ],
)
def test_what_is_no_arithmetic_is_a_mistake_that_says_why(expression: str, says: str) -> None:
    with pytest.raises(Mistake, match=says):
        calculate({"expression": expression})


def test_the_deepest_nesting_allowed_is_read() -> None:
    assert evaluate("(" * 149 + "1" + ")" * 149) == 1
