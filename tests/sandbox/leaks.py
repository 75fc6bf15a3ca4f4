"""What a leak would show in. Standard library only: also run by another user."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def state() -> dict[str, object]:
    """What a leak would show in: processes of sandboxes' users and of this one, descriptors, shared memory, queues."""
    mine, orphans, parents = set(), set(), {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            user = entry.stat().st_uid
            status = (entry / "status").read_text()
            parents[entry.name] = status.partition("\nPPid:\t")[2].partition("\n")[0]
            if user == os.getuid() != 0 and not watched(status):
                mine.add(entry.name)  # lost its parent; other tests may run as the same user at the same time
            elif user > 1_000_000_000 and not watched(status):
                orphans.add(entry.name)
    mine |= {name for name in parents if descends(name, str(os.getpid()), parents)}
    shared = [Path(f"/proc/sysvipc/{kind}").read_text() for kind in ("shm", "msg", "sem")] if Path("/proc/sysvipc").exists() else []
    return {
        "processes": sorted(mine),
        "orphans": sorted(orphans),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "shared": shared,
        "queues": sorted(os.listdir("/dev/mqueue")) if Path("/dev/mqueue").exists() else [],
        "memory files": sorted(name for name in os.listdir("/dev/shm") if "chromium" not in name),  # a browser of other tests
    }


def descends(process: str, ancestor: str, parents: dict[str, str]) -> bool:
    while (process := parents.get(process, "")) not in ("", "0", "1"):
        if process == ancestor:
            return True
    return False


def watched(status: str) -> bool:
    """Whether a sandboxed process has a living parent: other tests may run some at the same time."""
    return "\nPPid:\t1\n" not in status


def below(pid: int) -> set[int]:
    """A process and all that descend from it."""
    found, look = set(), [pid]
    while look:
        found.add(now := look.pop())
        with contextlib.suppress(OSError):
            look += [int(child) for child in Path(f"/proc/{now}/task/{now}/children").read_text().split()]
    return found


def alive(pid: int) -> bool:
    """Not counting what only waits to be reaped by a machine's first process that takes its time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
