"""The first lines of a confined process: put the descriptors in place, lock in, read what to do, do it.

Descriptors: 0 to 2 standard, 3 to say that the walls stand ("ready", or "!" and why not), 4 what to do as JSON, then those of the
role. What to do comes through a descriptor that only this process reads, so the fork-server's memory never holds a program
or a test that the next process could find there.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from posttrain.sandbox.inside.confine import Walls, confine
from posttrain.sandbox.inside.program import BROKEN_BEFORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

READY, PAYLOAD = 3, 4
ROLES = ("program", "worker", "tester", "repository")
"""Each a function of that name in the module of that name, which only who plays it loads."""


def place(descriptors: Sequence[int]) -> None:
    """Make `descriptors` 0, 1, 2, ... and close all others."""
    high = [os.dup(descriptor) for descriptor in descriptors]
    above = max(high) + 1
    moved = [os.dup2(descriptor, above + at) for at, descriptor in enumerate(high)]
    for at, descriptor in enumerate(moved):
        os.dup2(descriptor, at)
    os.closerange(len(descriptors), os.sysconf("SC_OPEN_MAX") if above < 4096 else above + 4096)


def begin(policy: Mapping[str, Any], walls: Walls | None) -> None:
    """Lock in and play the role; does not return. `walls` is None in the unsafe backend, which has none."""
    try:
        role = ROLES[ROLES.index(policy["role"])]
        play = getattr(importlib.import_module(f"posttrain.sandbox.inside.{role}"), role)
        if walls is not None:
            confine(policy, walls)
        payload = json.loads(read_all(PAYLOAD))
        sys.path[:] = [*policy["packages"], *(path for path in sys.path if path)]
        play(payload, ready)
    except BaseException as problem:
        said = f"!{type(problem).__name__}: {problem}".encode()[:1000]
        try:
            os.write(READY, said)
        except OSError:  # the walls stood already: the role itself broke
            os.write(2, said)
    os._exit(BROKEN_BEFORE)


def ready() -> None:
    os.write(READY, b"ready")
    os.close(READY)


def read_all(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)
    os.close(descriptor)
    return b"".join(pieces)


def main(arguments: str) -> None:
    """Inside bubblewrap: the descriptors are in place already."""
    given = json.loads(arguments)
    begin(given["policy"], Walls(**given["walls"]))
