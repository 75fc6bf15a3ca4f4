"""Every hostile program, in both backends, as this user and as another one: contained, ended, and nothing left of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from require import require
from sandbox.hostile import PROGRAMS

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
CONFIGURATIONS = [
    ("embedded", "this user"),
    ("embedded", "another user"),
    ("embedded", "no namespaces"),  # where bwrap cannot start at all
    ("bubblewrap", "this user"),
    ("bubblewrap", "another user"),
]
NO_NAMESPACES = (
    "exec setpriv --reuid 54321 --regid 54321 --clear-groups unshare --user --map-root-user sh -c "
    '\'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "$0" "$@"\' "$@"'
)


@cache
def ran(backend: str, user: str, folder: Path) -> dict[str, Any]:
    """All programs once in one configuration. Another user gets a copy of what he may not be able to read."""
    command = [sys.executable]
    if user != "this user":
        command = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", str(require("other-user"))]
        if user == "no namespaces":
            command = ["sh", "-c", NO_NAMESPACES, "sh", str(require("other-user"))]
        for part in ("core", "sandbox"):
            shutil.copytree(ROOT / "posttrain" / part, folder / "posttrain" / part, dirs_exist_ok=True)
        shutil.copy(ROOT / "posttrain" / "__init__.py", folder / "posttrain")
        for name in ("driver.py", "hostile.py", "leaks.py"):
            shutil.copy(HERE / name, folder)
        for place in (folder, *folder.parents):
            if place.stat().st_uid == os.getuid() and str(place).startswith("/tmp/"):
                place.chmod(place.stat().st_mode | 0o055)
    script, paths = (HERE / "driver.py", f"{ROOT}:{HERE}") if user == "this user" else (folder / "driver.py", str(folder))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "LANG": "C.UTF-8"}
    done = subprocess.run([*command, str(script), backend], capture_output=True, text=True, env=environment, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


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
