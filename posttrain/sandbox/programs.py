"""One program: source and standard input in, an Outcome out."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import PurePosixPath

from posttrain.core.errors import SandboxFailed, UserError
from posttrain.sandbox.inside.program import OUT_OF_MEMORY
from posttrain.sandbox.limits import Limits, Outcome
from posttrain.sandbox.supervisor import Ended, Job, Process, Supervisor

LARGEST_SOURCE = 4 << 20


def run_program(
    supervisor: Supervisor,
    source: str,
    *,
    stdin: str = "",
    limits: Limits,
    files: Mapping[str, str] | None = None,
    scratch: bool = False,
    packages: tuple[str, ...] = (),
) -> Outcome:
    """Run one program to its end. With `files`, or `scratch`, it finds itself in a folder of its own that it may write to.
    Raises SandboxFailed if the sandbox broke before the program began."""
    if len(source) > LARGEST_SOURCE:
        return refused(supervisor, f"the program has {len(source)} characters; {LARGEST_SOURCE} is the limit")
    folder = scratch or bool(files)
    if folder and not has_folders(supervisor):
        return refused(supervisor, "it wants a folder to write to, which needs the right to mount (user namespaces, or root)")
    for name in files or {}:
        checked_name(name)
    policy = limits.policy("program", scratch=folder, packages=packages)
    payload = {"source": harmless_text(source), "files": dict(files or {})}
    process = Process(policy, payload, stdin.encode("utf-8", "surrogatepass"), output=limits.output_bytes)
    return outcome(supervisor.run([process], limits.wall_s), limits, supervisor.backend)


def has_folders(supervisor: Supervisor) -> bool:
    if supervisor.process is None:
        supervisor.start()
    return bool(supervisor.facts["own_root"])


def refused(supervisor: Supervisor, why: str) -> Outcome:
    return Outcome("refused", None, "", "", 0.0, supervisor.backend, why)


def harmless_text(source: str) -> str:
    """A lone surrogate cannot stand in a program; Python would refuse the whole text with another error."""
    return source.encode("utf-8", "replace").decode("utf-8")


def checked_name(name: str) -> str:
    """A relative path that stays in the folder. Raises UserError: names come from tasks, not from models."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name or str(path) == ".":
        raise UserError(f"{name!r} is not a path inside the program's folder.", fix="Use a relative path without '..'.")
    return str(path)


def outcome(job: Job, limits: Limits, backend: str) -> Outcome:
    first = job.processes[0]
    began(first)
    out, err = (data.decode("utf-8", "replace") for data in (first.stdout, first.stderr))

    def found(status: str, code: int | None, why: str = "") -> Outcome:
        return Outcome(status, code, out, err, round(job.wall_s, 4), backend, why)  # type: ignore[arg-type]

    if job.late:
        return found("timeout", None, f"still running after {limits.wall_s:g} s")
    if job.overflow:
        return found("killed", None, f"wrote more than {limits.output_bytes} bytes")
    code, number = ending(first.status, backend)
    if number:
        if number == signal.SIGXCPU or (number == signal.SIGKILL and first.cpu_s >= limits.cpu_s):
            return found("timeout", None, f"used more than {limits.cpu_s} s of CPU")
        return found("killed", None, f"ended by signal {name_of(number)}")
    if code == OUT_OF_MEMORY:
        return found("memory", 1, f"needed more than {limits.memory_bytes >> 20} MiB")
    return found("ok" if code == 0 else "error", code, "" if code == 0 else (err.strip().splitlines() or [""])[-1][:300])


def began(process: Ended) -> None:
    """Raises SandboxFailed for a process that never got as far as the program."""
    if process.ready != "ready":
        last = process.stderr[-300:].decode(errors="replace").strip()
        why = process.ready.removeprefix("!") or last or f"wait status {process.status}"
        raise SandboxFailed(f"the sandbox did not start the program: {why}")


def ending(status: int, backend: str) -> tuple[int | None, int]:
    """(exit code, signal), one of them. bwrap reports a signal as 128 and more."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    code = os.WEXITSTATUS(status)
    return (None, code - 128) if backend == "bubblewrap" and code > 128 else (code, 0)


def name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
