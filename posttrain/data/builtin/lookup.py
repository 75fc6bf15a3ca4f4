"""A small table in the prompt and a question about it: a cell, two rows compared, the largest or smallest of a column.

Options: questions, rows. Numbers within a column differ, so every question has one answer. The table alone
decides the split: no table of the test split is ever seen in training.
"""

from __future__ import annotations

import random

from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet

NAMES = (
    "Ana",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Grace",
    "Hugo",
    "Iris",
    "Jonas",
    "Kira",
    "Leo",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
)
CITIES = (
    "Athens",
    "Berlin",
    "Cairo",
    "Delhi",
    "Lima",
    "London",
    "Madrid",
    "Oslo",
    "Paris",
    "Rome",
    "Seoul",
    "Tokyo",
    "Vienna",
    "Zurich",
)
NUMBER_COLUMNS = {"age": (18, 79), "points": (1, 99), "books": (2, 60), "pets": (1, 12)}
QUESTIONS = ("cell", "compare", "largest", "smallest")

OPTIONS = {"questions": Option(QUESTIONS, QUESTIONS), "rows": Option((2, 3, 4, 5, 6), (3, 4, 5))}

Table = dict[str, dict[str, str]]
"""Name of the row, then column to value."""


def problem(stream: random.Random, picked: Picked) -> Problem:
    question, rows = stream.choice(picked["questions"]), stream.choice(picked["rows"])
    first, second = stream.sample(sorted(NUMBER_COLUMNS), 2)
    names = stream.sample(NAMES, rows)
    values = {
        column: stream.sample(range(NUMBER_COLUMNS[column][0], NUMBER_COLUMNS[column][1] + 1), rows) for column in (first, second)
    }
    cities = stream.sample(CITIES, rows)
    table = {
        name: {"city": cities[row], first: str(values[first][row]), second: str(values[second][row])}
        for row, name in enumerate(names)
    }
    asked, answer, steps = ASK[question](stream, table, first)
    return Problem(
        key=shown(dict(sorted(table.items()))),
        question=f"{shown(table)}\n\n{asked}",
        answer=answer,
        steps=steps,
        slices={"question": question, "rows": str(rows)},
    )


def shown(table: Table) -> str:
    columns = list(next(iter(table.values())))
    lines = [["name", *columns], *([name, *row.values()] for name, row in table.items())]
    return "\n".join(" | ".join(line) for line in lines)


def cell(stream: random.Random, table: Table, column: str) -> tuple[str, str, str]:
    name, column = stream.choice(list(table)), stream.choice(["city", column])
    value = table[name][column]
    return f"What is the {column} of {name}?", value, f"In the row of {name}, {column} is {value}."


def compare(stream: random.Random, table: Table, column: str) -> tuple[str, str, str]:
    left, right = stream.sample(list(table), 2)
    more = stream.random() < 0.5
    a, b = int(table[left][column]), int(table[right][column])
    answer = left if (a > b) == more else right
    sign = ">" if a > b else "<"
    asked = f"Whose {column} is {'larger' if more else 'smaller'}, that of {left} or of {right}? Give the name."
    return asked, answer, f"{left}: {a}. {right}: {b}. {a}{sign}{b}."


def largest(stream: random.Random, table: Table, column: str) -> tuple[str, str, str]:
    return extreme(table, column, "largest")


def smallest(stream: random.Random, table: Table, column: str) -> tuple[str, str, str]:
    return extreme(table, column, "smallest")


def extreme(table: Table, column: str, word: str) -> tuple[str, str, str]:
    numbers = {name: int(row[column]) for name, row in table.items()}
    answer = (max if word == "largest" else min)(numbers, key=lambda name: numbers[name])
    listed = ", ".join(f"{name} {number}" for name, number in numbers.items())
    return f"Who has the {word} number under {column}? Give the name.", answer, f"{listed}. The {word} is {numbers[answer]}."


ASK = {"cell": cell, "compare": compare, "largest": largest, "smallest": smallest}

SET = TaskSet("lookup", "lookup", OPTIONS, problem, ("think_answer", "answer_only"))  # its grader reads no boxes
