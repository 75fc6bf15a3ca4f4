"""Loading torch and transformers at less cost: a command's start is little else.

Measured on two cores, Python 3.11: 2.6 s for a stage's imports as they come, 2.0 s in here.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

UNUSED = ("scipy",)
"""Packages that transformers loads if it finds them, for models that no stage has (object detection)."""


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Within it packages that no stage uses look as if they were not installed, and cyclic garbage is not looked for: each
    search goes through all objects of the libraries so far."""
    hidden = [name for name in UNUSED if name not in sys.modules]
    collecting = gc.isenabled()
    gc.disable()
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "not there"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        if collecting:
            gc.enable()
