"""Seeds of tasks that differ in nothing else: even ones for training, odd ones for tests, so no task is in both."""

from __future__ import annotations

from posttrain.core.seeds import derive


def seeds(name: str, *, split: str, count: int, seed: int) -> list[int]:
    """`count` different seeds of one split, of 31 bits, as most packages take them."""
    odd = int(split == "test")
    found: dict[int, None] = {}
    number = 0
    while len(found) < count:
        found[(derive(seed, name, split, number) % 2**30) * 2 + odd] = None
        number += 1
    return list(found)
