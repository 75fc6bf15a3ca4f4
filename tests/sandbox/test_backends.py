"""Which backend is taken, what happens without one, many programs at once, and what is left when the owner dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from require import require
from sandbox.leaks import alive, below, state

from posttrain import sandbox
from posttrain.core.errors import SandboxUnavailable, UserError
from posttrain.sandbox import Limits, backends
from posttrain.sandbox.backends import Tried, choose, tried
from posttrain.sandbox.canaries import Result
from posttrain.sandbox.pool import Pool
from posttrain.sandbox.programs import run_program
from posttrain.sandbox.verdicts import check_functions

ROOT = Path(__file__).resolve().parent.parent.parent


def test_bubblewrap_first_then_our_own_then_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    works = {name: Tried(name, "", (), backends.Backend(name, "walls")) for name in backends.SAFE}
    broken = {name: Tried(name, "", (Result("reads a file outside", False, "ok: ESCAPED"),), None) for name in backends.SAFE}
    monkeypatch.setattr(backends, "tried", works.__getitem__)
    assert choose().name == "bubblewrap"
    monkeypatch.setattr(backends, "tried", {**works, "bubblewrap": broken["bubblewrap"]}.__getitem__)
    assert choose().name == "embedded"
    monkeypatch.setattr(backends, "tried", broken.__getitem__)
    with pytest.raises(SandboxUnavailable, match=r"reads a file outside.*Install bubblewrap") as caught:
        choose()
    assert caught.value.exit_code == 4


def test_what_is_asked_for_by_name_is_taken_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, "docker")
    with pytest.raises(UserError, match="POSTTRAIN_SANDBOX.*docker"):
        choose()
    monkeypatch.setenv(backends.VARIABLE, "unsafe")
    assert not choose().safe and "no sandbox" in choose().description


def test_the_battery_has_teeth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without walls the canaries escape: the unsafe backend fails the battery that the others pass."""
    monkeypatch.setattr(backends, "missing", lambda name: "")
    found = tried.__wrapped__("unsafe")
    escaped = {each.name for each in found.results if not each.contained}
    assert found.backend is None
    assert {"reads a file outside", "connects over TCP", "starts a process", "makes a file in memory"} <= escaped


def test_a_machine_without_the_parts_is_told_what_to_install(tmp_path: Path) -> None:
    require("bwrap")
    command = [sys.executable, "-m", "posttrain.cli", "sandbox", "check", "--backend", "bubblewrap"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PATH": str(tmp_path)}, check=False)
    assert done.returncode == 4 and "bwrap is not on the search path" in done.stdout and "apt install bubblewrap" in done.stderr


def test_a_thousand_in_flight() -> None:
    """Few run at a time; all come back; nothing is left."""
    require("landlock")
    before = state()
    mine = Pool.of(choose("embedded"), size=2)

    async def all_of_them() -> list[str]:
        limits = Limits(cpu_s=1)
        asked = [mine.ask(lambda s, n=n: run_program(s, f"print({n})", limits=limits)) for n in range(1000)]
        return [each.stdout.strip() for each in await asyncio.gather(*asked)]

    assert asyncio.run(all_of_them()) == [str(n) for n in range(1000)]
    mine.close()
    assert {kind: (was, now) for kind, was in before.items() if was != (now := state()[kind])} == {}


def test_hundreds_of_verdicts_leave_nothing(pool: Pool) -> None:
    assert pool.backend is not None
    mine, before = Pool.of(pool.backend, size=2), state()
    tests = {"functions": ["f"], "calls": [{"args": [1], "expected": 1}]}
    programs = ["def f(n): return n", "import os; os._exit(0)", "import sys; sys.exit(1)", "def f(n): raise OSError", "x = ("]
    count = 300 if pool.backend.name == "embedded" else 60
    asked = [mine.submit(lambda s, at=at: check_functions(s, programs[at % 5], tests, limits=Limits())) for at in range(count)]
    assert [each.result().passed for each in asked] == [at % 5 == 0 for at in range(count)]
    mine.close()
    after = state()
    assert {kind: (was, after[kind]) for kind, was in before.items() if was != after[kind]} == {}


def test_waiting_jobs_can_be_given_up(pool: Pool) -> None:
    asked = [pool.submit(lambda s: run_program(s, "import time; time.sleep(.2)", limits=Limits())) for _ in range(20)]
    assert sum(each.cancel() for each in asked[4:]) == 16
    assert {each.result().status for each in asked[:4]} == {"ok"}


def test_from_any_event_loop() -> None:
    async def both() -> list[str]:
        outcomes = await asyncio.gather(*(sandbox.run_async(f"print({n} + 1)") for n in range(5)))
        return [each.stdout for each in outcomes]

    assert asyncio.run(both()) == [f"{n + 1}\n" for n in range(5)] == asyncio.run(both())
    assert sandbox.run("print(input())", stdin="x").stdout == "x\n"
    sandbox.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_its_owner(number: signal.Signals, pool: Pool) -> None:
    """However the owner ends, in the middle of a program that never does."""
    assert pool.backend is not None
    code = (
        "from posttrain.sandbox.backends import Backend\nfrom posttrain.sandbox import Limits\n"
        "from posttrain.sandbox.programs import run_program\n"
        f"supervisor = Backend({pool.backend.name!r}, '', {pool.backend.bwrap!r}).supervisor()\nsupervisor.start()\n"
        "print(supervisor.process.pid, flush=True)\n"
        "run_program(supervisor, 'while True: pass', limits=Limits(cpu_s=100, wall_s=100))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as owner:
        assert owner.stdout is not None
        server = int(owner.stdout.readline())
        time.sleep(0.5)
        started = below(server)
        owner.send_signal(number)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(alive(pid) for pid in started):
        time.sleep(0.05)
    assert len(started) > 1 and not [pid for pid in started if alive(pid)]


def test_a_fork_server_that_was_killed_is_replaced(pool: Pool) -> None:
    assert pool.backend is not None
    supervisor = pool.backend.supervisor()
    supervisor.start()
    assert supervisor.process is not None
    os.kill(supervisor.process.pid, signal.SIGKILL)
    supervisor.process.wait()
    assert run_program(supervisor, "print(1)", limits=Limits()).stdout == "1\n"
    supervisor.close()


@pytest.mark.parametrize("arguments", [["--json"], ["--stdin", "in.txt", "--json"]])
def test_exec_says_what_became_of_it(arguments: list[str], tmp_path: Path) -> None:
    require("landlock")
    (tmp_path / "p.py").write_text("import sys\nprint(sys.stdin.read() or 'nothing')\nsys.exit(3)")
    (tmp_path / "in.txt").write_text("hello")
    command = [sys.executable, "-m", "posttrain.cli", "sandbox", "exec", "p.py", "--backend", "embedded", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["status", "exit", "stdout", "stderr", "wall_s", "backend"]
    assert (found["status"], found["exit"], found["backend"]) == ("error", 3, "embedded")
    assert found["stdout"].strip() == ("hello" if "--stdin" in arguments else "nothing")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["exec", "not-there.py"], "not-there.py: cannot be read"),
        (["exec", "p.py", "--backend", "docker"], "'docker' is not a sandbox backend"),
        (["exec", "p.py", "--timeout", "0"], "--timeout: wall_s is 0"),
        (["check", "--backend", "unsafe"], "'unsafe' is not a sandbox backend"),
    ],
)
def test_wrong_input(arguments: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("")
    command = [sys.executable, "-m", "posttrain.cli", "sandbox", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 2 and says in done.stderr
