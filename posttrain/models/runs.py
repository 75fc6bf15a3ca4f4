"""A packed row as runs: stretches of tokens that all see the same earlier tokens, and themselves causally.

`reach` (see packing.py) nests, so what a run sees before itself are whole runs, its ancestors: a prompt before its
completions, the earlier turns before a later one. Runs of few keys are put in batches of similar size, padded; a batch
costs a fixed time for its calls and a time for each pair of a query and a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from posttrain.models.shapes import rounded_rows, rounded_width

WASTE = 20_000
"""Pairs of query and key that a batch may hold in padding: what its calls alone cost, about 0.5 ms for nine heads."""


@dataclass(frozen=True)
class Run:
    """`before` are the tokens that every token of the run sees, in order."""

    own: slice
    before: tuple[slice, ...]

    @property
    def length(self) -> int:
        return size(self.own)

    @property
    def prefix(self) -> int:
        return sum(map(size, self.before))

    @property
    def keys(self) -> int:
        return self.prefix + self.length


def size(tokens: slice) -> int:
    found: int = tokens.stop - tokens.start
    return found


def runs_of(reach_N: Sequence[int]) -> list[Run]:
    count = len(reach_N)
    cuts = [0, *(i for i in range(1, count) if reach_N[i] != reach_N[i - 1]), count]
    runs: list[Run] = []
    open_: list[slice] = []
    for start, stop in pairwise(cuts):
        open_ = [run for run in open_ if reach_N[run.start] > start]
        if stop > start:
            runs.append(Run(slice(start, stop), joined(open_)))
            open_.append(slice(start, stop))
    return runs


def joined(parts: Sequence[slice]) -> tuple[slice, ...]:
    """The same tokens in as few slices as can be."""
    found: list[slice] = []
    for part in parts:
        if found and found[-1].stop == part.start:
            found[-1] = slice(found[-1].start, part.stop)
        else:
            found.append(part)
    return tuple(found)


def batches(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of similar length and prefix together; within a batch, those with the same prefix stand side by side."""
    found: list[list[Run]] = []
    spent = 0
    for run in sorted(runs, key=lambda run: (run.length, run.prefix), reverse=True):
        real = spent + run.length * run.keys
        if found and padded([*found[-1], run]) - real <= WASTE:
            found[-1].append(run)
            spent = real
        else:
            found.append([run])
            spent = run.length * run.keys
    return [sorted(batch, key=lambda run: ([(part.start, part.stop) for part in run.before], run.own.start)) for batch in found]


def padded(batch: Sequence[Run]) -> int:
    """Pairs of query and key that are computed for a batch."""
    rows, queries, prefix = shape(batch)
    return rows * queries * (prefix + queries)


def shape(batch: Sequence[Run]) -> tuple[int, int, int]:
    """Rows, queries of each, and keys before them: as large as the largest, rounded."""
    queries, prefix = max(run.length for run in batch), max(run.prefix for run in batch)
    return rounded_rows(len(batch)), rounded_width(queries), rounded_width(prefix)


def later(runs: Sequence[Run]) -> list[tuple[slice, slice]]:
    """Blocks of queries and the keys before them, for some of the runs: neighbours with the same ancestor are one block."""
    found: list[tuple[slice, slice]] = []
    last: dict[tuple[int, int], int] = {}
    for run in runs:
        for part in run.before:
            key = (part.start, part.stop)
            place = last.get(key)
            if place is not None and found[place][0].stop == run.own.start:
                found[place] = (slice(found[place][0].start, run.own.stop), part)
            else:
                last[key] = len(found)
                found.append((run.own, part))
    return found
