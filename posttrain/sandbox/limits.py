"""What a program may use, and what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "error", "timeout", "memory", "killed", "refused"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on one program. It is one process always; network it has none."""

    cpu_s: int = 5
    """Seconds of CPU, over all its threads."""
    wall_s: float = 10.0
    """Seconds from its start to its end."""
    memory_bytes: int = 512 << 20
    """Address space, which bounds everything it can hold in memory."""
    threads: int = 16
    """Threads, the first one included."""
    output_bytes: int = 1 << 20
    """What it may write to standard output and to standard error, each; more ends it."""
    scratch_bytes: int = 16 << 20
    """Size of its own folder, where it has one; also of a single file."""
    entries: int = 1000
    """Files and folders in that folder."""
    open_files: int = 64
    """Descriptors open at a time."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"{name} is {value}; expected a positive number")

    def policy(self, role: str, *, scratch: bool, packages: tuple[str, ...] = ()) -> dict[str, Any]:
        """As the inside reads them (inside/confine.py)."""
        return {
            "role": role,
            "cpu_s": self.cpu_s,
            "memory": self.memory_bytes,
            "threads": self.threads,
            "file_bytes": self.scratch_bytes,
            "open_files": self.open_files,
            "scratch": self.scratch_bytes if scratch else None,
            "entries": self.entries,
            "packages": list(packages),
        }


@dataclass(frozen=True)
class Outcome:
    """What became of one program.

    ok: it ended with status 0. error: it ended with another status, which `exit` has. timeout: its time was over, wall or CPU.
    memory: it ran out of memory. killed: it died of a signal, or was ended for writing too much. refused: it was not started,
    because it asks for what the sandbox does not give. `exit` is None where it did not end by itself.
    """

    status: Status
    exit: int | None
    stdout: str
    stderr: str
    wall_s: float
    backend: str
    explanation: str = ""
    """Why, where the status alone does not say it."""
