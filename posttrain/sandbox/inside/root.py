"""A root of its own for the fork-server: an empty, read-only tree in which only the named paths exist.

Needs the right to mount, which root has, or a user namespace gives (namespaces(7)). The steps are bubblewrap's: a small tmpfs
over /tmp becomes the root, the old root is bound from below it, and is then let go.
"""

from __future__ import annotations

import os

from posttrain.sandbox.inside import kernel
from posttrain.sandbox.inside.kernel import BIND, NO_DEVICES, NO_SETUID, PRIVATE, READ_ONLY, RECURSIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

WORK = "/own-folder"
"""Where a program with files of its own finds itself; a name that hides nothing that is bound."""
SPARE = kernel.NEW_MOUNTS | kernel.NEW_NETWORK | kernel.NEW_IPC | kernel.NEW_NAMES


def enter(readable: Collection[str], devices: Collection[str]) -> bool:
    """Leave the machine's files, network, shared memory and name behind. False, with nothing changed, where that is not allowed."""
    user, group = os.getuid(), os.getgid()
    sources = {path: os.path.realpath(path) for path in (*readable, *devices)}
    try:
        if user == 0:
            kernel.unshare(SPARE)
        else:
            kernel.unshare(kernel.NEW_USERS | SPARE)
            kernel.map_self(user, group)
    except OSError:
        return False
    kernel.mount(None, "/", None, RECURSIVE | PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", NO_SETUID | NO_DEVICES, "size=1m,nr_inodes=1000,mode=755")
    os.chdir("/tmp")
    for folder in ("old", "new"):
        os.mkdir(folder)
    kernel.pivot_root(".", "old")
    os.chdir("/")
    for path, source in sources.items():
        bind(source, path, NO_SETUID if path in devices else READ_ONLY | NO_SETUID | NO_DEVICES)
    for folder in (WORK, "/tmp"):
        os.makedirs(f"/new{folder}", exist_ok=True)
    kernel.mount("/new", "/new", None, BIND | RECURSIVE)
    os.chdir("/new")
    kernel.pivot_root(".", ".")  # the old root now lies over the new one, and goes
    kernel.unmount(".")
    os.chdir("/")
    kernel.restrict_mount("/", READ_ONLY, recursive=False)
    return True


def bind(real: str, path: str, restrictions: int) -> None:
    source, target = f"/old{real}", f"/new{path}"
    if not os.path.exists(source):
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    kernel.mount(source, target, None, BIND | RECURSIVE)
    kernel.restrict_mount(target, restrictions)


def scratch(size: int, entries: int) -> None:
    """A folder of its own for one program, in memory, with a limit on bytes and on how many files and folders it holds."""
    kernel.mount("tmpfs", WORK, "tmpfs", NO_SETUID | NO_DEVICES, f"size={size},nr_inodes={entries},mode=777")
