"""A process locks itself in: limits, another user, no capabilities, Landlock, the filter. In this order, and there is no way back.

The same steps in every backend. Whatever fails raises OSError, and the program is then not started: there is no weaker way.
`RLIMIT_CPU` and `RLIMIT_AS` count per process; they bound a whole program because the filter lets it have one process only.
"""

from __future__ import annotations

import os
import resource
import signal

from posttrain.sandbox.inside import filter as calls
from posttrain.sandbox.inside import kernel, landlock, root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


class Walls:
    """What the backend has already put around this process. `user` is who to become, None to stay who we are; `own_threads`:
    threads of this user inside count apart from those outside. No dataclass: that module takes as long to import as bwrap to run.
    """

    def __init__(self, *, own_root: bool, own_threads: bool, readable: Sequence[str], user: int | None, landlock: bool) -> None:
        self.own_root, self.own_threads, self.readable = own_root, own_threads, tuple(readable)
        self.user, self.landlock = user, landlock


def confine(policy: Mapping[str, Any], walls: Walls) -> None:
    """`policy` has cpu_s, memory, threads, file_bytes, open_files, scratch (None, or bytes) and entries, packages."""
    folder = policy["scratch"] is not None
    if folder:
        if not walls.own_root:
            raise OSError("files need a root of their own, which this machine does not let us make")
        kernel.unshare(kernel.NEW_MOUNTS)  # what is mounted now ends with this process
        root.scratch(policy["scratch"], policy["entries"])
        os.chdir(root.WORK)
    rules = rules_for(policy, walls, folder) if walls.landlock else None
    own_threads = walls.own_threads or alone()
    limit(policy, 0 if own_threads else tasks_of(os.getuid()))
    if walls.user is not None:
        os.setgroups([])
        os.setresgid(walls.user, walls.user, walls.user)
        os.setresuid(walls.user, walls.user, walls.user)
    kernel.drop_capabilities()
    parent = os.getppid()
    kernel.control(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    kernel.control(kernel.PR_SET_DUMPABLE, 0)
    kernel.control(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if rules is not None:
        landlock.enforce(rules)
        os.close(rules)
    calls.install(os.getpid(), own_root=walls.own_root)


def rules_for(policy: Mapping[str, Any], walls: Walls, folder: bool) -> int:
    writable = (*DEVICES, root.WORK) if folder else DEVICES
    return landlock.ruleset((*walls.readable, *policy["packages"]), writable)


def alone() -> bool:
    """Enter a user namespace of its own, in which threads are counted from zero. It maps nobody and gives nothing else."""
    try:
        kernel.unshare(kernel.NEW_USERS)
    except OSError:
        return False
    return True


def tasks_of(user: int) -> int:
    """Threads that this user has on the machine now, where they count against the limit too."""
    count = 0
    for entry in os.listdir("/proc"):
        try:
            count += len(os.listdir(f"/proc/{entry}/task")) if entry.isdigit() and os.stat(f"/proc/{entry}").st_uid == user else 0
        except OSError:
            continue
    return count


def limit(policy: Mapping[str, Any], others: int) -> None:
    cpu = policy["cpu_s"]
    for which, value in (
        (resource.RLIMIT_AS, policy["memory"]),
        (resource.RLIMIT_FSIZE, policy["file_bytes"]),
        (resource.RLIMIT_NOFILE, policy["open_files"]),
        (resource.RLIMIT_NPROC, others + policy["threads"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 64),
    ):
        resource.setrlimit(which, (value, value))
    resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, 8 << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
