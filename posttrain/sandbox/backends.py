"""Which walls this machine offers: bubblewrap, else our own; each proves itself before it is used, and there is no third.

    bubblewrap   `bwrap` on the search path: a fresh set of namespaces for each process, and the inner wall inside
    embedded     the inner wall alone in a warm fork-server: Landlock, seccomp, limits, and namespaces where the kernel lets us
    unsafe       no wall. Only by name, for tests of other things, and the run's records say so

The environment variable POSTTRAIN_SANDBOX names one; otherwise the first that passes its canaries is taken.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import threading
from dataclasses import dataclass

from posttrain.core.errors import SandboxUnavailable, UserError, did_you_mean
from posttrain.sandbox import canaries
from posttrain.sandbox.inside import landlock
from posttrain.sandbox.inside.syscalls import NUMBERS
from posttrain.sandbox.supervisor import Supervisor

SAFE = ("bubblewrap", "embedded")
UNSAFE = "unsafe"
VARIABLE = "POSTTRAIN_SANDBOX"
FIX = "Install bubblewrap (apt install bubblewrap, or dnf install bubblewrap), then try `posttrain sandbox check`."

_lock = threading.Lock()


@dataclass(frozen=True)
class Backend:
    """A backend that may be used. `description` says which walls it has, for the run's records."""

    name: str
    description: str
    bwrap: str = ""
    folders: bool = False
    """Programs may have a folder to write to, which repositories need."""

    @property
    def safe(self) -> bool:
        return self.name != UNSAFE

    def supervisor(self, packages: tuple[str, ...] = ()) -> Supervisor:
        return Supervisor(self.name, self.bwrap, packages)


@dataclass(frozen=True)
class Tried:
    """One backend as it was found: why it cannot be tried, or what its canaries did."""

    name: str
    missing: str
    results: tuple[canaries.Result, ...]
    backend: Backend | None

    @property
    def why_not(self) -> str:
        return self.missing or "; ".join(f"{each.name} ({each.detail})" for each in self.results if not each.contained)


def missing(name: str) -> str:
    """What a backend lacks here, empty if it can be tried."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    if not NUMBERS:
        return f"knows no system calls of {os.uname().machine}"
    if name == "bubblewrap" and shutil.which("bwrap") is None:
        return "bwrap is not on the search path"
    if name == "embedded" and landlock.version() < 1:
        return "the kernel has no Landlock (Linux 5.13, switched on at boot)"
    return ""


@functools.cache
def tried(name: str) -> Tried:
    """Try a backend, once in this process."""
    if lack := missing(name):
        return Tried(name, lack, (), None)
    bwrap = shutil.which("bwrap") or "" if name == "bubblewrap" else ""
    supervisor = Supervisor(name, bwrap)
    try:
        results = tuple(canaries.release(supervisor))
        description, folders = described(name, supervisor.facts), bool(supervisor.facts.get("own_root"))
    finally:
        supervisor.close()
    held = all(each.contained for each in results)
    return Tried(name, "", results, Backend(name, description, bwrap, folders) if held else None)


def described(name: str, facts: dict[str, object]) -> str:
    """The walls in words."""
    inner = ["seccomp", "limits", *([f"Landlock {facts['landlock']}"] if facts.get("landlock") else [])]
    outer = ["bubblewrap"] if name == "bubblewrap" else ["namespaces"] if facts.get("own_root") else []
    return ", ".join(["a user of its own" if facts.get("own_users") else "this user", *outer, *inner])


def choose(name: str | None = None) -> Backend:
    """The backend asked for here, by the environment, or the best there is. Raises SandboxUnavailable, never takes a weaker one."""
    asked = name or os.environ.get(VARIABLE) or None
    if asked == UNSAFE:
        return Backend(UNSAFE, "no sandbox: model-written code runs with all the rights of this user")
    if asked is not None and asked not in SAFE:
        raise UserError(
            f"{asked!r} is not a sandbox backend.", place="" if name else VARIABLE, fix=did_you_mean(asked, (*SAFE, UNSAFE))
        )
    with _lock:
        reasons = []
        for each in (asked,) if asked else SAFE:
            found = tried(each)
            if found.backend is not None:
                return found.backend
            reasons.append(f"{each}: {found.why_not}")
    raise SandboxUnavailable(
        f"model-written code cannot be run safely here. {' '.join(f'{reason}.' for reason in reasons)}", fix=FIX
    )
