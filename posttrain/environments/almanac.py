"""An invented country, so that no model can know its facts: two dozen towns, their festivals and rivers.

The facts stand in almanac.json, written by us. From them come articles to search and tables to query; the built-in task set
`almanac` asks for the same facts (data/builtin/almanac.py).
"""

from __future__ import annotations

import json
import sqlite3
from functools import cache
from importlib import resources
from typing import Any

NAME = "builtin:almanac"
Row = dict[str, Any]


@cache
def facts() -> dict[str, list[Row]]:
    text = (resources.files("posttrain") / "environments" / "almanac.json").read_text(encoding="utf-8")
    found: dict[str, list[Row]] = json.loads(text)
    return found


def articles() -> list[tuple[str, str]]:
    """Title and text, one article a town, a festival and a river."""
    towns = [(row["name"], TOWN[number % len(TOWN)].format(**row)) for number, row in enumerate(facts()["towns"])]
    festivals = [(row["name"], FESTIVAL.format(**row)) for row in facts()["festivals"]]
    rivers = [(f"The {row['name']}", RIVER.format(**row)) for row in facts()["rivers"]]
    return [*towns, *festivals, *rivers]


TOWN = (
    "{name} is a town in {province}, on the river {river}. It was founded in {founded} and has {people} people. "
    "It is known for {known_for}. Its mayor is {mayor}. Visitors come for {sight}.",
    "Founded in {founded}, {name} lies on the {river} in {province}. The mayor is {mayor}. The town has {people} people, "
    "and its trade in {known_for} reaches all provinces; strangers ask first for {sight}.",
    "{name}, a town of {people} people in {province}, lives by {known_for}. {mayor} is its mayor. "
    "It was founded on the {river} in {founded}. Its sight is {sight}.",
)
FESTIVAL = "The {name} is held in {town} in {month}. On that day {custom}."
RIVER = "The {name} is a river of {miles} miles. It rises in {source}. People say that {saying}."


def database() -> sqlite3.Connection:
    """The same facts as tables, in memory; its reader forbids all writing."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    for table, rows in facts().items():
        columns = [f"{name} {'INTEGER' if isinstance(value, int) else 'TEXT'}" for name, value in rows[0].items()]
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        places = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {table} VALUES ({places})", [tuple(row.values()) for row in rows])
    connection.commit()
    return connection
