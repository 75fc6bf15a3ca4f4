"""An endless, shuffled walk over n items: every item once an epoch, each epoch in its own order, any position at once.

A resumed loop asks for position p and gets what an uninterrupted one would have got.
"""

from __future__ import annotations

import random
from array import array
from functools import lru_cache

from posttrain.core.seeds import derive


@lru_cache(maxsize=2)
def permutation(count: int, seed: int, epoch: int) -> array[int]:
    order = array("q", range(count))
    random.Random(derive(seed, "epoch", epoch)).shuffle(order)
    return order


def item_at(position: int, count: int, seed: int) -> int:
    """Index of the item at a position of the walk; positions count on from one epoch into the next."""
    epoch, offset = divmod(position, count)
    return permutation(count, seed, epoch)[offset]
