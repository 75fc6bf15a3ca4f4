"""Landlock: this process may open nothing but what lies below the named paths, whatever its user may.

Source: the kernel's documentation of Landlock, which names each right and the version of the interface that brought it. It also
forbids TCP (version 4) and signals and abstract sockets to others (version 6); before those versions the seccomp filter alone
does. Landlock does not govern chmod, stat or sockets with a path: see filter.py.
"""

from __future__ import annotations

import os
import struct

from posttrain.sandbox.inside import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

READ_FILE, READ_FOLDER, WRITE_FILE = 1 << 2, 1 << 3, 1 << 1
RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights over files each version knows: they are numbered from 0."""
VERSION_FLAG, BELOW_PATH = 1, 1


def version() -> int:
    """The version of the interface, 0 where the kernel has none."""
    try:
        return kernel.system_call("landlock_create_ruleset", None, 0, VERSION_FLAG)
    except OSError:
        return 0


def rights(at: int) -> int:
    return (1 << RIGHTS_BY_VERSION.get(at, 16)) - 1


def ruleset(readable: Iterable[str], writable: Iterable[str]) -> int:
    """A descriptor of rules: read below `readable`, everything below `writable`. Paths that are not there are left out."""
    at = version()
    network = 3 if at >= 4 else 0  # binding and connecting TCP sockets: with no rule, denied
    scoped = 3 if at >= 6 else 0  # abstract sockets and signals
    attributes = struct.pack("QQQ", rights(at), network, scoped)[: 8 if at < 4 else 16 if at < 6 else 24]
    rules = kernel.system_call("landlock_create_ruleset", attributes, len(attributes), 0)
    for path in readable:
        add(rules, path, READ_FILE | READ_FOLDER)
    for path in writable:
        add(rules, path, rights(at))
    return rules


def add(rules: int, path: str, allowed: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not os.path.isdir(path):
            allowed &= READ_FILE | WRITE_FILE
        kernel.system_call("landlock_add_rule", rules, BELOW_PATH, struct.pack("=Qi", allowed, place), 0)
    finally:
        os.close(place)


def enforce(rules: int) -> None:
    """From here on, and for ever. Needs no_new_privs."""
    kernel.system_call("landlock_restrict_self", rules, 0)
