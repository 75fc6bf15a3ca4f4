"""Attacks by somebody who had not seen the code: contained, ended, nothing left, no verdict forged; and honest programs left alone."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
from require import require
from sandbox.blind_forge import CALLS, CHECK, FORGERIES, RIGHT
from sandbox.blind_load import GREEDY, HONEST
from sandbox.elsewhere import driven

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
    """All programs once in one configuration, with a secret beside them that no output may hold."""
    token = f"token-{secrets.token_hex(8)}"
    files = ("blind_driver.py", "blind.py", "blind_load.py", "leaks.py")
    return {"token": token, **driven(files, (backend, which), user, folder, {"BLIND_TOKEN": token})}


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
