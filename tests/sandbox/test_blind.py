"""Attacks by somebody who had not seen the code: contained, ended, nothing left, no verdict forged; and honest programs left alone."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from require import require
from sandbox.blind_forge import CALLS, CHECK, FORGERIES, RIGHT
from sandbox.blind_load import GREEDY, HONEST
from sandbox.test_hostile import HERE, NO_NAMESPACES, ROOT

from posttrain.sandbox import Limits
from posttrain.sandbox.pool import Pool
from posttrain.sandbox.verdicts import check_functions

# Limits are the inner wall's, the same everywhere: two configurations, one of each backend and user, try all that is greedy.
CONFIGURATIONS = [
    ("embedded", "this user", "all"),
    ("embedded", "another user", "escapes"),
    ("embedded", "no namespaces", "escapes"),
    ("bubblewrap", "this user", "escapes"),
    ("bubblewrap", "another user", "all"),
]
SHORT = Limits(cpu_s=1, wall_s=0.4, memory_bytes=256 << 20)
PATIENT = Limits(cpu_s=5, wall_s=5, memory_bytes=256 << 20)


def ran(backend: str, user: str, which: str, folder: Path) -> dict[str, Any]:
    """All programs once in one configuration. Another user gets a copy of what he may not be able to read."""
    command, script, paths = [sys.executable], HERE / "blind_driver.py", f"{ROOT}:{HERE}"
    if user != "this user":
        command = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", str(require("other-user"))]
        if user == "no namespaces":
            command = ["sh", "-c", NO_NAMESPACES, "sh", str(require("other-user"))]
        for part in ("core", "sandbox"):
            shutil.copytree(ROOT / "posttrain" / part, folder / "posttrain" / part, dirs_exist_ok=True)
        shutil.copy(ROOT / "posttrain" / "__init__.py", folder / "posttrain")
        for name in ("blind_driver.py", "blind.py", "blind_load.py", "leaks.py"):
            shutil.copy(HERE / name, folder)
        for place in (folder, *folder.parents):
            if place.stat().st_uid == os.getuid() and str(place).startswith("/tmp/"):
                place.chmod(place.stat().st_mode | 0o055)
        script, paths = folder / "blind_driver.py", str(folder)
    token = f"token-{secrets.token_hex(8)}"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "LANG": "C.UTF-8", "BLIND_TOKEN": token}
    done = subprocess.run(
        [*command, str(script), backend, which], capture_output=True, text=True, env=environment, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    return {"token": token, **json.loads(done.stdout)}


@pytest.fixture(scope="module", params=CONFIGURATIONS, ids=lambda each: f"{each[0]}, {each[1]}, {each[2]}")
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    backend, user, which = request.param
    require({"embedded": "landlock", "bubblewrap": "bwrap"}[backend])
    return ran(backend, user, which, tmp_path_factory.mktemp("outside"))


def wrongs(name: str, found: dict[str, Any], token: str) -> list[str]:
    """What one program did that it must not be able to do."""
    out, said = found["stdout"], found["stdout"] + found["stderr"] + found["explanation"]
    held = found["status"] != "ok" or "CAUGHT" in out
    return [
        what
        for what, is_so in {
            "reached something": "BREACH" in out,
            "read the secret": token in said,
            "read the machine's users": "root:x:0:0" in said,
            "broke the sandbox": found["status"] in ("failed", "refused"),
            "took more than the limit": name in GREEDY and ("GOT" in out or not held),
            "is honest and was stopped": name in HONEST and (found["status"], out) != ("ok", HONEST[name][1]),
        }.items()
        if is_so
    ]


def test_every_program_does_what_it_may_and_no_more(result: dict[str, Any]) -> None:
    wrong = {name: (why, found) for name, found in result["found"].items() if (why := wrongs(name, found, result["token"]))}
    assert not wrong


def test_nothing_outside_was_touched_or_left(result: dict[str, Any]) -> None:
    assert result["intact"] == {"secret": True, "mode": "0o100666", "entries": ["secret"]}
    assert not result["contacts"]
    assert result["before"] == result["after"]


@pytest.mark.parametrize("tests", [CHECK, CALLS], ids=["check", "calls"])
def test_no_verdict_is_forged_and_right_answers_pass(pool: Pool, tests: dict[str, object]) -> None:
    asked = {
        name: pool.submit(
            lambda supervisor, source=source, limits=limits: check_functions(supervisor, source, tests, limits=limits)
        )
        for sources, limits in ((FORGERIES, SHORT), (RIGHT, PATIENT))
        for name, source in sources.items()
    }
    verdicts = {name: future.result() for name, future in asked.items()}
    assert not {name: verdict for name, verdict in verdicts.items() if verdict.passed is not (name in RIGHT)}
    assert not {name: verdict for name, verdict in verdicts.items() if verdict.status != "decided"}, "no score is no verdict of 0"


def test_a_breach_would_be_seen() -> None:
    """The judge of these tests, on what a broken sandbox would report."""
    quiet = {"status": "ok", "stdout": "", "stderr": "", "explanation": ""}
    assert not wrongs("file/plain", quiet, "token-1")
    assert wrongs("file/plain", quiet | {"stderr": "it is token-1"}, "token-1") == ["read the secret"]
    assert wrongs("ns/mount_old", quiet | {"stdout": "BREACH mount proc 0"}, "token-1") == ["reached something"]
    assert wrongs("memory/bytes", quiet | {"stdout": "GOT"}, "token-1") == ["took more than the limit"]
    assert wrongs("fine/threads", quiet | {"status": "timeout"}, "token-1") == ["is honest and was stopped"]
