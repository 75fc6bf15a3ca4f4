"""Arithmetic in plain notation, worked out exactly: numbers, + - * / % ^, parentheses.

    expression = term (("+" | "-") term)*      term = power (("*" | "/" | "%") power)*
    power = sign* atom ("^" power)?            atom = number | "(" expression ")"

Our own reader, because what a model writes is never given to Python's: no names, no calls, nothing but numbers. Values are
fractions, so nothing is rounded until a result is shown. A result or a power too large to be worth writing is refused before it
is computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from posttrain.environments.tools import Mistake

LONGEST = 300
"""Characters of an expression; parentheses nest at most half as deep."""
MOST_DIGITS = 60
SHOWN_DIGITS = 12
TOKEN = re.compile(r"\s*(?:([0-9]+(?:\.[0-9]+)?|\.[0-9]+)|(\*\*|[-+*/%^()]))")
TYPED = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})


def calculate(arguments: Mapping[str, Any]) -> str:
    """The value of `expression` as text."""
    return shown(evaluate(str(arguments["expression"])))


def evaluate(text: str) -> Fraction:
    """Raises Mistake for what is no arithmetic."""
    if len(text) > LONGEST:
        raise Mistake(f"the expression is longer than {LONGEST} characters")
    reader = Reader(tokens(text.translate(TYPED)))
    value = reader.expression()
    if reader.left:
        raise Mistake(f"{reader.left[0]!r} is not expected there")
    return value


def tokens(text: str) -> list[str]:
    found, at = [], 0
    while text[at:].strip():
        match = TOKEN.match(text, at)
        if match is None:
            raise Mistake(f"{text[at:].strip()[0]!r} is no part of arithmetic; use numbers, + - * / % ^ and parentheses")
        found.append("^" if match.group(2) == "**" else match.group(1) or match.group(2))
        at = match.end()
    return found


class Reader:
    """Reads tokens from the left; `left` is what has not been read."""

    def __init__(self, found: list[str]) -> None:
        self.left = found

    def next(self, *allowed: str) -> str:
        """Take the next token if it is one of these."""
        return self.left.pop(0) if self.left and self.left[0] in allowed else ""

    def expression(self) -> Fraction:
        value = self.term()
        while sign := self.next("+", "-"):
            other = self.term()
            value = bounded(value + other if sign == "+" else value - other)
        return value

    def term(self) -> Fraction:
        value = self.power()
        while sign := self.next("*", "/", "%"):
            other = self.power()
            if sign != "*" and other == 0:
                raise Mistake("division by zero")
            value = bounded(value * other if sign == "*" else value / other if sign == "/" else value % other)
        return value

    def power(self) -> Fraction:
        if sign := self.next("+", "-"):
            return -self.power() if sign == "-" else self.power()
        base = self.atom()
        return raised(base, self.power()) if self.next("^") else base

    def atom(self) -> Fraction:
        if self.next("("):
            value = self.expression()
            if not self.next(")"):
                raise Mistake("a parenthesis is not closed")
            return value
        if not self.left or not (self.left[0][0].isdigit() or self.left[0][0] == "."):
            raise Mistake(f"a number is expected before {self.left[0]!r}" if self.left else "the expression ends too early")
        return bounded(Fraction(self.left.pop(0)))


def raised(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise Mistake("an exponent must be a whole number")
    if base == 0 and exponent < 0:
        raise Mistake("division by zero")
    digits = max(len(str(abs(base.numerator))), len(str(base.denominator)))
    if abs(exponent) * digits > 4 * MOST_DIGITS and abs(base) != 1 and base != 0:
        raise Mistake("the number is too large")
    return bounded(base ** int(exponent % 2 if abs(base) == 1 else exponent))


def bounded(value: Fraction) -> Fraction:
    if max(abs(value.numerator), value.denominator) >= 10**MOST_DIGITS:
        raise Mistake("the number is too large")
    return value


def shown(value: Fraction) -> str:
    """A whole number or a short decimal in full, anything else to twelve significant digits."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.{SHOWN_DIGITS}g}"
