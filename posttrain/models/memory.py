"""Keep freed memory in the process (glibc only).

Fresh pages dominate a CPU step: giving them back to the system after every tensor and asking for them again cost about
a third of a training step and a fifth of a decode step where it was measured. Resident memory rises by one to two gigabytes.
The matrix library keeps a compiled kernel for each shape it has met; packed batches have a new length every time, so that
cache is bounded here, or memory creeps from step to step until the cache is full.
"""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
KERNELS = "128"


def keep_memory() -> bool:
    """Tell the allocator to keep what it has. Returns False where the C library has no such knob."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)  # read at the first matrix product
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_MAX, 0) and library.mallopt(M_TRIM_THRESHOLD, -1))
