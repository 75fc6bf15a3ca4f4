"""Randomness by name, not by order: the same (seed, stage, step, task, sample) always gives the same stream.

So a resumed run, another batch shape or another grading order draws the same numbers.
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: int | str) -> int:
    """A 63-bit seed from a root seed and the names of what it is for."""
    text = "\x1f".join(f"{type(n).__name__}:{n}" for n in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
