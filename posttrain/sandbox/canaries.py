"""The battery: programs that try what must not succeed, run in a backend before it is trusted with anything.

Each names what it tries. A program that gets through prints `ESCAPED`; one that must be ended has a status to show for it. Some
need a victim outside: a file with a secret, listening sockets, a process of the same user. Proves that the walls stand on this
machine at this moment, not that the kernel has no fault.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from posttrain.core.errors import SandboxFailed
from posttrain.sandbox.limits import Limits, Outcome
from posttrain.sandbox.programs import run_program
from posttrain.sandbox.supervisor import Supervisor

ESCAPED = "ESCAPED"
SECRET = "the secret of the canary\n"
LIMITS = Limits(cpu_s=2, wall_s=5.0, memory_bytes=256 << 20, output_bytes=256 << 10, threads=8)
SHORT = Limits(cpu_s=1, wall_s=0.4, memory_bytes=256 << 20, output_bytes=256 << 10)


@dataclass(frozen=True)
class Canary:
    """`statuses` are the ways in which a contained program may end; it never prints ESCAPED."""

    name: str
    source: str
    statuses: tuple[str, ...] = ("ok",)
    limits: Limits = LIMITS


@dataclass(frozen=True)
class Victims:
    """What stands outside for the canaries to reach: a file, a process, a TCP port, an abstract socket."""

    secret: str
    process: subprocess.Popen[bytes]
    port: int
    abstract: str


@dataclass(frozen=True)
class Result:
    name: str
    contained: bool
    detail: str


def attempt(code: str) -> str:
    """A program that says ESCAPED unless `code` raises."""
    body = textwrap.indent(code.strip(), "    ")
    caught = f"except Exception as error:\n    print(type(error).__name__, error)\nelse:\n    print({ESCAPED!r})\n"
    return f"import os, socket, ctypes, signal, threading, time\ntry:\n{body}\n{caught}"


def battery(outside: Victims) -> list[Canary]:
    secret, victim, port, name = outside.secret, outside.process.pid, outside.port, outside.abstract
    return [
        Canary("an honest program runs", "print(sum(range(10)))"),
        Canary("reads a file outside", attempt(f"open({secret!r}).read()")),
        Canary("reads the list of users", attempt("open('/etc/passwd').read()")),
        Canary("lists a folder outside", attempt(f"os.listdir({os.path.dirname(secret)!r})")),  # noqa: PTH120
        Canary("writes outside", attempt(f"open({secret!r}, 'a').write('x')")),
        Canary("changes a file's mode outside", attempt(f"os.chmod({secret!r}, 0o777)")),
        Canary("reads another process", attempt(f"open('/proc/{victim}/environ').read()")),
        Canary("signals another process", attempt(f"os.kill({victim}, signal.SIGKILL)")),
        Canary("connects over TCP", attempt(f"socket.create_connection(('127.0.0.1', {port}), 1)")),
        Canary("connects to an abstract socket", attempt(f"socket.socket(socket.AF_UNIX).connect({name!r})")),
        Canary("starts a process", attempt("os.fork() or os._exit(0)")),
        Canary("replaces itself", attempt("os.execv('/bin/true', ['true'])"), ("ok",)),
        Canary("makes a user namespace", attempt("if ctypes.CDLL(None).unshare(0x10000000): raise OSError('denied')")),
        Canary("makes a file in memory", attempt("os.memfd_create('x')")),
        Canary("takes a gigabyte", attempt("bytearray(1 << 30)")),
        Canary(
            "starts 200 threads",
            attempt("import threading\nfor _ in range(200): threading.Thread(target=time.sleep, args=(1,), daemon=True).start()"),
        ),
        Canary("never ends", "while True: pass", ("timeout",), SHORT),
        Canary("writes without end", "while True: print('x' * 1000)", ("killed",)),
    ]


@contextlib.contextmanager
def victims() -> Iterator[Victims]:
    """A secret file that anybody could read, a process, a TCP port and an abstract socket."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="posttrain-canary-")))
        folder.chmod(0o755)
        (folder / "secret").write_text(SECRET)
        (folder / "secret").chmod(0o666)
        process = stack.enter_context(
            subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, env={}, start_new_session=True)
        )
        stack.callback(process.kill)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        name = f"\0posttrain-canary-{secrets.token_hex(8)}"
        abstract.bind(name)
        abstract.listen()
        yield Victims(str(folder / "secret"), process, listener.getsockname()[1], name)


def release(supervisor: Supervisor) -> list[Result]:
    """Run the battery in a backend."""
    try:
        with victims() as outside:
            results = [judged(canary, supervisor) for canary in battery(outside)]
            alive = outside.process.poll() is None
            intact = Path(outside.secret).read_text() == SECRET
        return [*results, Result("the secret is as it was", intact, ""), Result("the victim lives", alive, "")]
    except SandboxFailed as problem:
        return [Result("the sandbox starts", False, str(problem))]


def judged(canary: Canary, supervisor: Supervisor) -> Result:
    found: Outcome = run_program(supervisor, canary.source, limits=canary.limits)
    detail = f"{found.status}: {(found.explanation or found.stdout or found.stderr).strip()[:100]}"
    return Result(canary.name, found.status in canary.statuses and ESCAPED not in found.stdout, detail)
