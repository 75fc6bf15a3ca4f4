"""What workers of other libraries share, in environments where posttrain is not installed."""

from __future__ import annotations

import ctypes
import platform


def keep_memory() -> None:
    """Freed memory stays in the process, as posttrain.models.memory has it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(-4, 0)
        ctypes.CDLL(None).mallopt(-1, -1)
