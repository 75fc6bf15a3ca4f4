"""The seccomp filter: an allowlist of system calls, assembled by hand into the kernel's little filter language.

A call that is not listed fails with EPERM, so a program sees a PermissionError and goes on; another architecture's calls kill it.
Some calls are looked at more closely, by arguments that are plain numbers (a filter cannot follow pointers): threads but no
processes, signals to itself only, pairs of sockets but no socket that could reach anything.
Source: seccomp(2); the instructions are those of linux/filter.h. Assumes that no other filter in force allows more, which
cannot be: filters only add up. Fails on a machine whose call numbers are unknown (syscalls.py).
"""

from __future__ import annotations

import ctypes
import os
import struct

from posttrain.sandbox.inside import kernel
from posttrain.sandbox.inside.syscalls import FREE, METADATA, NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MACHINE = os.uname().machine
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000

LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, constant."""

THREAD, NEW_NAMESPACES = 0x00010000, 0x7E020000
STREAM, UNIX = 1, 1
FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
"""Duplicate, flags, locks, a pipe's size. Not: who gets a signal when something can be read (F_SETOWN), nor a larger pipe."""
IOCTL_COMMANDS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""Is it a terminal, how large, how much can be read, blocking or not, closed on exec or not. Not: typing into it (TIOCSTI)."""
THREAD_NAME = (15, 16)


def give(action: int) -> Instruction:
    return (RETURN, 0, 0, action)


def low(argument: int) -> Instruction:
    """Load the lower half of an argument. Both machines are little-endian."""
    return (LOAD, 0, 0, 16 + 8 * argument)


def high(argument: int) -> Instruction:
    return (LOAD, 0, 0, 20 + 8 * argument)


def one_of(argument: int, values: Iterable[int]) -> list[Instruction]:
    """Allow if the lower half of an argument is one of these, as the kernel too reads only that half of an int."""
    values = list(values)
    tests = [(EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    return [low(argument), *tests, give(ERRNO | EPERM), give(ALLOW)]


def thread_only() -> list[Instruction]:
    """clone: a thread of this process, and no new namespace."""
    return [low(0), (ANY_BIT, 0, 2, THREAD), (ANY_BIT, 1, 0, NEW_NAMESPACES), give(ALLOW), give(ERRNO | EPERM)]


def unix_stream() -> list[Instruction]:
    """socketpair: two connected ends. Of type stream only: a datagram could be sent to another address."""
    return [low(0), (EQUAL, 0, 4, UNIX), low(1), (AND, 0, 0, 0xF), (EQUAL, 0, 1, STREAM), give(ALLOW), give(ERRNO | EPERM)]


def without_address() -> list[Instruction]:
    """sendto: to the other end, so the address (argument 4, a pointer) is null in both halves."""
    return [low(4), (EQUAL, 0, 3, 0), high(4), (EQUAL, 0, 1, 0), give(ALLOW), give(ERRNO | EPERM)]


def program(process: int, *, own_root: bool) -> list[Instruction]:
    """The filter of one process, whose own number it knows. `own_root`: every path that is left belongs to the sandbox."""
    closer = {
        "clone": thread_only(),
        "clone3": [give(ERRNO | ENOSYS)],  # its flags lie behind a pointer; the C library then uses clone
        "socketpair": unix_stream(),
        "sendto": without_address(),
        "kill": one_of(0, [process]),
        "tgkill": one_of(0, [process]),
        "prlimit64": one_of(0, [0, process]),
        "sched_setaffinity": one_of(0, [0]),
        "fcntl": one_of(1, FCNTL_COMMANDS),
        "ioctl": one_of(1, IOCTL_COMMANDS),
        "prctl": one_of(0, THREAD_NAME),
    }
    found: list[Instruction] = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, ARCHITECTURES[MACHINE]), give(KILL), (LOAD, 0, 0, 0)]
    if MACHINE == "x86_64":
        found += [(AT_LEAST, 0, 1, X32), give(KILL)]
    for name, body in closer.items():
        if name in NUMBERS:
            found += [(EQUAL, 0, len(body), NUMBERS[name]), *body]
    for name in [*FREE, *(METADATA if own_root else ())]:
        if name in NUMBERS:
            found += [(EQUAL, 0, 1, NUMBERS[name]), give(ALLOW)]
    return [*found, give(ERRNO | EPERM)]


def install(process: int, *, own_root: bool) -> None:
    """Put the filter in force for this thread and all it will start. Needs no_new_privs."""
    instructions = program(process, own_root=own_root)
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(instructions), ctypes.addressof(buffer))
    kernel.control(kernel.PR_SET_SECCOMP, 2, header)
