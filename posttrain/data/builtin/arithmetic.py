"""Sums, differences, products and exact quotients of whole numbers.

Options: operations, digits (of each number; of the first where terms are taken away; of the divisor and the quotient), terms.
Results are never negative and never fractions. The order of summands and factors does not make another problem.
Derivations are written column by column from the ones, with the carry as a further summand, so that each step is a fact
about single digits: 17 + 25 is "Ones: 7+5=12. Tens: 1+2+1=4." Several terms are worked from left to right.
"""

from __future__ import annotations

import math
import random

from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet

SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
COLUMNS = ("Ones", "Tens", "Hundreds", "Thousands")

OPTIONS = {
    "operations": Option(tuple(SIGNS), ("add", "subtract")),
    "digits": Option((1, 2, 3, 4), (1, 2)),
    "terms": Option((2, 3, 4, 5), (2,)),
}


def problem(stream: random.Random, picked: Picked) -> Problem:
    operation, digits, terms = (stream.choice(picked[option]) for option in ("operations", "digits", "terms"))
    numbers = NUMBERS[operation](stream, digits, terms)
    answer = numbers[0]
    for number in numbers[1:]:
        answer = apply(SIGNS[operation], answer, number)
    alike = sorted(numbers) if operation in ("add", "multiply") else numbers
    sign = SIGNS[operation]
    asked = f" {sign} ".join(map(str, numbers))
    return Problem(
        key=f"{operation} {' '.join(map(str, alike))}",
        question=f"What is {asked}?",
        answer=str(answer),
        steps=steps(sign, numbers),
        equation=", ".join(chain(sign, numbers, " ")),
        expression=asked,
        slices={"operation": operation, "digits": str(digits), "terms": str(terms)},
    )


def apply(sign: str, left: int, right: int) -> int:
    if sign == "/":
        return left // right
    return left + right if sign == "+" else left - right if sign == "-" else left * right


def with_digits(stream: random.Random, digits: int) -> int:
    return stream.randrange(10 ** (digits - 1), 10**digits)


def equals(stream: random.Random, digits: int, terms: int) -> list[int]:
    return [with_digits(stream, digits) for _ in range(terms)]


def falling(stream: random.Random, digits: int, terms: int) -> list[int]:
    """A first number and others that together do not exceed it."""
    if terms == 2:
        return sorted(equals(stream, digits, 2), reverse=True)
    first = stream.randrange(max(terms - 1, 10 ** (digits - 1)), 10**digits)
    left, numbers = first, [first]
    for others in range(terms - 2, -1, -1):
        numbers.append(stream.randrange(1, max(1, (left - others) // (others + 1)) + 1))
        left -= numbers[-1]
    return numbers


def divisible(stream: random.Random, digits: int, terms: int) -> list[int]:
    quotient = with_digits(stream, digits)
    divisors = [max(2, with_digits(stream, digits))] if terms == 2 else [stream.randrange(2, 10) for _ in range(terms - 1)]
    return [quotient * math.prod(divisors), *divisors]


NUMBERS = {"add": equals, "subtract": falling, "multiply": equals, "divide": divisible}


def steps(sign: str, numbers: list[int]) -> str:
    if len(numbers) > 2:
        return ". ".join(chain(sign, numbers)) + "."
    first, second = numbers
    if sign == "+":
        return columns_added(first, second)
    if sign == "-":
        return columns_taken(first, second)
    if sign == "*":
        return partial_products(first, second)
    return f"{second}*{first // second}={first}."


def chain(sign: str, numbers: list[int], space: str = "") -> list[str]:
    """Left to right: 17+25=42, 42+31=73."""
    total, lines = numbers[0], []
    for number in numbers[1:]:
        result = apply(sign, total, number)
        lines.append(space.join((str(total), sign, str(number), "=", str(result))))
        total = result
    return lines


def columns_added(first: int, second: int) -> str:
    lines, carry = [], 0
    for name, a, b in columns(first, second):
        total = a + b + carry
        lines.append(f"{name}: {a}+{b}{'+1' if carry else ''}={total}.")
        carry = total // 10
    return " ".join(lines)


def columns_taken(first: int, second: int) -> str:
    lines, borrow = [], 0
    for name, a, b in columns(first, second):
        short = a - borrow < b
        lines.append(f"{name}: {a + 10 * short}-{b}{'-1' if borrow else ''}={a + 10 * short - b - borrow}.")
        borrow = int(short)
    return " ".join(lines)


def columns(first: int, second: int) -> list[tuple[str, int, int]]:
    width = max(len(str(first)), len(str(second)))
    return [(COLUMNS[at], first // 10**at % 10, second // 10**at % 10) for at in range(width)]


def partial_products(first: int, second: int) -> str:
    """23*45 as 23*40 and 23*5, then their sum."""
    parts = [int(digit) * 10**at for at, digit in enumerate(reversed(str(second))) if digit != "0"][::-1]
    products = [f"{first}*{part}={first * part}." for part in parts]
    if len(parts) > 1:
        products.append(f"{'+'.join(str(first * part) for part in parts)}={first * second}.")
    return " ".join(products)


SET = TaskSet("arithmetic", "math", OPTIONS, problem, ("think_answer", "think_equation", "answer_only", "boxed", "calculator"))
