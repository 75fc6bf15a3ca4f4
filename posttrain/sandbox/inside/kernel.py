"""The few calls of the kernel that Python has no function for, through ctypes: each raises OSError with its name.

Sources: the manual pages prctl(2), unshare(2), mount(2), mount_setattr(2), pivot_root(2), capabilities(7), seccomp(2).
"""

from __future__ import annotations

import ctypes
import os
import struct

from posttrain.sandbox.inside.syscalls import NUMBERS

libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38

NEW_MOUNTS, NEW_NAMES, NEW_IPC, NEW_USERS, NEW_NETWORK = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x40000000

READ_ONLY, NO_SETUID, NO_DEVICES, BIND, RECURSIVE, PRIVATE, DETACH = 1, 2, 4, 4096, 16384, 1 << 18, 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000


def checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def system_call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """A call by its number. Integers go as 64 bits, bytes and buffers as their address."""
    if name not in NUMBERS:
        raise OSError(38, f"{name}: this machine's system calls are not known here")
    given = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return checked(libc.syscall(ctypes.c_long(NUMBERS[name]), *given), name)


def control(option: int, value: int = 0, pointer: object = None) -> int:
    """prctl(2)."""
    third = ctypes.c_ulong(0) if pointer is None else pointer
    return checked(libc.prctl(option, ctypes.c_ulong(value), third, ctypes.c_ulong(0), ctypes.c_ulong(0)), f"prctl {option}")


def unshare(flags: int) -> None:
    checked(libc.unshare(flags), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    given = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    checked(libc.mount(given[0], given[1], given[2], ctypes.c_ulong(flags), options.encode() or None), f"mount on {target}")


def unmount(target: str) -> None:
    checked(libc.umount2(os.fsencode(target), DETACH), f"umount of {target}")


def restrict_mount(target: str, flags: int, *, recursive: bool = True) -> None:
    """Add READ_ONLY, NO_SETUID, NO_DEVICES to a mount and to all that is mounted below it. The bits are the same as mount's."""
    attributes = struct.pack("QQQQ", flags, 0, 0, 0)
    system_call("mount_setattr", AT_FDCWD, os.fsencode(target), AT_RECURSIVE if recursive else 0, attributes, len(attributes))


def pivot_root(new: str, old: str) -> None:
    system_call("pivot_root", os.fsencode(new), os.fsencode(old))


def drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets (version 3 of the header: two 32-bit words each)."""
    system_call("capset", struct.pack("Ii", 0x20080522, 0), bytes(24))


def map_self(user: int, group: int) -> None:
    """In a new user namespace: this user and group are themselves, and nobody else exists."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
