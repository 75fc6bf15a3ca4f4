"""Several streams as one, by weight. Deterministic, exact and without memory.

The k-th item of a stream with weight w stands at (k + u) / w, where u in [0, 1) is the stream's own offset, drawn from the
seed; the mixture is all items in that order. So every prefix holds each stream's share up to one item, and the same seed
gives the same order on every run and every resume.

With equal weights every item is used: the rest of a longer stream comes at the end. With unequal weights the shares are what
was asked for, so the mixture ends where the first stream does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from posttrain.core.seeds import derive

Item = TypeVar("Item")


def mix(streams: Sequence[Iterator[Item]], weights: Sequence[float], *, seed: int) -> Iterator[Item]:
    """Items of all streams, interleaved by weight."""
    keep_shares = len(set(weights)) > 1
    offsets = [derive(seed, "mix", number) / 2**63 for number in range(len(streams))]
    # (place of the next item, number of the stream) for each stream that has not ended
    next_place = {number: offset / weights[number] for number, offset in enumerate(offsets)}
    taken = [0] * len(streams)
    while next_place:
        number = min(next_place, key=lambda n: (next_place[n], n))
        try:
            item = next(streams[number])
        except StopIteration:
            if keep_shares:
                return
            del next_place[number]
            continue
        yield item
        taken[number] += 1
        next_place[number] = (taken[number] + offsets[number]) / weights[number]
