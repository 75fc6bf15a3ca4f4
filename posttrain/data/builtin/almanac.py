"""Questions about an invented country, which only a search or a query can answer: no model has read of it.

Options: kinds. `town` and `festival` ask for one fact, `two_steps` for a fact of a town that another fact names, `total` and
`largest` for sums and comparisons over a table. The facts are those of environments/almanac.json, so each answer is in the
articles that `search` finds and in the tables that `sql` reads. The town, festival or province asked about decides the split.
"""

from __future__ import annotations

import json
import random
from functools import cache
from importlib import resources
from typing import Any

from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet

KINDS = ("town", "festival", "two_steps", "total", "largest")
OPTIONS = {"kinds": Option(KINDS, ("town", "festival", "two_steps"))}
ASKED = "Look it up. Reply with the answer only."

TOWN = {
    "founded": "In which year was {name} founded?",
    "people": "How many people does {name} have?",
    "mayor": "Who is the mayor of {name}?",
    "known_for": "What is {name} known for?",
    "river": "On which river does {name} lie?",
    "province": "In which province is {name}?",
}
FESTIVAL = {"month": "In which month is the {name} held?", "town": "In which town is the {name} held?"}
TWO_STEPS = {
    "founded": "In which year was the town founded whose mayor is {mayor}?",
    "people": "How many people does the town have whose mayor is {mayor}?",
    "known_for": "What is the town known for whose mayor is {mayor}?",
}
TOTAL = {
    "people": "How many people do the towns of {province} have together?",
    "oldest": "In which year was the oldest town of {province} founded?",
}
LARGEST = {"people": "Which town of {province} has the most people?", "founded": "Which town of {province} was founded last?"}

Row = dict[str, Any]


@cache
def facts() -> dict[str, list[Row]]:
    text = (resources.files("posttrain") / "environments" / "almanac.json").read_text(encoding="utf-8")
    found: dict[str, list[Row]] = json.loads(text)
    return found


def problem(stream: random.Random, picked: Picked) -> Problem:
    kind = stream.choice(picked["kinds"])
    question, answer, about = ASK[kind](stream)
    return Problem(
        key=question,
        question=f"{question}\n{ASKED}",
        answer=answer,
        steps="",
        slices={"kind": kind},
        family=about,
    )


def one_fact(stream: random.Random, table: str, questions: dict[str, str]) -> tuple[str, str, str]:
    row, (column, question) = stream.choice(facts()[table]), stream.choice(list(questions.items()))
    return question.format(**row), str(row[column]), str(row["name"])


def town(stream: random.Random) -> tuple[str, str, str]:
    return one_fact(stream, "towns", TOWN)


def festival(stream: random.Random) -> tuple[str, str, str]:
    return one_fact(stream, "festivals", FESTIVAL)


def two_steps(stream: random.Random) -> tuple[str, str, str]:
    return one_fact(stream, "towns", TWO_STEPS)


def province(stream: random.Random) -> tuple[str, list[Row]]:
    name = stream.choice(sorted({row["province"] for row in facts()["towns"]}))
    return name, [row for row in facts()["towns"] if row["province"] == name]


def total(stream: random.Random) -> tuple[str, str, str]:
    (name, towns), (what, question) = province(stream), stream.choice(list(TOTAL.items()))
    value = sum(row["people"] for row in towns) if what == "people" else min(row["founded"] for row in towns)
    return question.format(province=name), str(value), name


def largest(stream: random.Random) -> tuple[str, str, str]:
    (name, towns), (column, question) = province(stream), stream.choice(list(LARGEST.items()))
    return question.format(province=name), str(max(towns, key=lambda row: int(row[column]))["name"]), name


ASK = {"town": town, "festival": festival, "two_steps": two_steps, "total": total, "largest": largest}

SET = TaskSet("almanac", "lookup", OPTIONS, problem, ())
