"""What programs use most, and our own roles, imported once by the fork-server: a program that wants it has it at once."""

from __future__ import annotations

import contextlib
import importlib

COMMON = (
    "bisect collections copy dataclasses datetime decimal enum fractions functools hashlib heapq io itertools json math operator "
    "random re statistics string struct textwrap threading traceback types typing"
).split()
ROLES = ("worker", "tester", "remote", "repository")


def load() -> None:
    for name in COMMON:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for role in ROLES:
        importlib.import_module(f"posttrain.sandbox.inside.{role}")
