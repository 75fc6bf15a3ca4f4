"""Every hostile program, in both backends, as this user and as another one: contained, ended, and nothing left of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from require import require
from sandbox.elsewhere import driven
from sandbox.hostile import PROGRAMS

CONFIGURATIONS = [
    ("embedded", "this user"),
    ("embedded", "another user"),
    ("embedded", "no namespaces"),  # where bwrap cannot start at all
    ("bubblewrap", "this user"),
    ("bubblewrap", "another user"),
]


@cache
def ran(backend: str, user: str, folder: Path) -> dict[str, Any]:
    """All programs once in one configuration."""
    return driven(("driver.py", "hostile.py", "leaks.py"), (backend,), user, folder)


@pytest.fixture(scope="module", params=CONFIGURATIONS, ids=lambda each: f"{each[0]}, {each[1]}")
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    backend, user = request.param
    require({"embedded": "landlock", "bubblewrap": "bwrap"}[backend])
    return ran(backend, user, tmp_path_factory.mktemp("outside"))


def test_every_program_is_contained(result: dict[str, Any]) -> None:
    wrong = {}
    for program in PROGRAMS:
        found = result["found"][program.name]
        if "ESCAPED" in found["stdout"] or found["status"] not in program.statuses:
            wrong[program.name] = (found["status"], found["stdout"][:200], found["explanation"])
    assert not wrong


def test_what_is_outside_is_as_it_was(result: dict[str, Any]) -> None:
    assert result["intact"] == {"secret": "the secret", "mode": "0o100666", "victim": None, "entries": ["secret"]}


def test_nothing_is_left(result: dict[str, Any]) -> None:
    """No process, descriptor, shared memory, queue or file more than before 120 hostile programs."""
    left = {kind: (before, result["after"][kind]) for kind, before in result["before"].items() if before != result["after"][kind]}
    assert not left
