"""Rows of tokens -> one packed row in which every shared prefix is stored once.

`reach` says who sees whom with one integer a token: token i sees token j exactly if j <= i < reach[j]. It describes plain
packing (reach = end of the row), a prompt shared by its completions (end of the group) and trees of turns (depth first).

Sorting puts the rows in depth-first order of their prefix tree, so each row adds only what follows its longest common
prefix with the row before it. A prompt's last position predicts the first token of every completion, so each trained token
keeps `source`, the packed position that predicts it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from posttrain.core.types import ints

MIN_SHARED = 8
"""Prefixes shorter than this are repeated: one more attention block would cost more than it saves."""


class Row(Protocol):
    """What packing needs of a row: its tokens, and 1 in `mask` for each token that is trained (never the first)."""

    @property
    def tokens(self) -> Sequence[int]: ...

    @property
    def mask(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class Batch:
    """One packed forward. N packed tokens, L trained tokens (in the order of the rows given, each row's in order).

    tokens_N, positions_N, reach_N; source_L: packed position that predicts the token; target_L: the token;
    row_L: index of its row among the rows given; streams: one float per trained token, by name.
    """

    tokens_N: Tensor
    positions_N: Tensor
    reach_N: Sequence[int]
    source_L: Tensor
    target_L: Tensor
    row_L: Tensor
    rows: int
    streams: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.target_L)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix, by bisection on slices."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def pack_tokens(
    rows: Sequence[Sequence[int]], *, min_shared: int = MIN_SHARED
) -> tuple[list[int], list[int], list[int], list[list[int]]]:
    """-> tokens, positions, reach (length N each), where[row][i] = packed position of token i of that row."""
    tokens: list[int] = []
    positions: list[int] = []
    reach: list[int] = []
    where: list[list[int]] = [[] for _ in rows]
    path: list[int] = []
    previous: Sequence[int] = ()
    for index in sorted(range(len(rows)), key=lambda r: rows[r]):  # type: ignore[arg-type,return-value]
        row = rows[index]
        shared = common_prefix(row, previous)
        shared = shared if shared >= min_shared else 0
        for position in path[shared:]:
            reach[position] = len(tokens)  # nobody after this point may see it
        path = path[:shared] + list(range(len(tokens), len(tokens) + len(row) - shared))
        tokens += row[shared:]
        positions += range(shared, len(row))
        reach += [0] * (len(row) - shared)
        where[index], previous = path, row
    for position in path:
        reach[position] = len(tokens)
    return tokens, positions, reach, where


def pack(
    rows: Sequence[Row], streams: Mapping[str, Sequence[Sequence[float]]] | None = None, *, device: torch.device | str = "cpu"
) -> Batch:
    """Pack rows into one Batch. `streams` holds, by name, one float per trained token of each row."""
    tokens, positions, reach, where = pack_tokens([row.tokens for row in rows])
    source, target, owner = ints(()), ints(()), ints(())
    for index, row in enumerate(rows):
        trained = [i for i, m in enumerate(row.mask) if m]
        if trained and trained[0] == 0:
            raise ValueError("a row's first token has nothing before it that could predict it; its mask must be 0")
        source.extend(where[index][i - 1] for i in trained)
        target.extend(row.tokens[i] for i in trained)
        owner.extend([index] * len(trained))
    packed_streams = {
        name: torch.tensor([x for row in values for x in row], dtype=torch.float32, device=device)
        for name, values in (streams or {}).items()
    }
    for name, stream in packed_streams.items():
        if len(stream) != len(target):
            raise ValueError(f"stream {name!r} has {len(stream)} values for {len(target)} trained tokens")

    def tensor(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Batch(tensor(tokens), tensor(positions), reach, tensor(source), tensor(target), tensor(owner), len(rows), packed_streams)


def micro_batches(lengths: Sequence[Sequence[int]], budget: int) -> Iterator[list[tuple[int, int]]]:
    """Split groups of rows into batches of at most `budget` packed tokens, keeping a group together where it fits.

    `lengths[g]` are the lengths of group g's rows (an upper bound of what they take when packed). Yields lists of
    (group, row). A row longer than the budget gets a batch of its own. The batches are of similar size, since a small last
    one costs a whole pass over the weights.
    """
    total = sum(map(sum, lengths))
    even = total / max(1, math.ceil(total / budget))
    batch: list[tuple[int, int]] = []
    size = done = made = 0
    for group, rows in enumerate(lengths):
        cost = sum(rows)
        if batch and (size + cost > budget or done + size + cost / 2 > even * (made + 1)):
            yield batch
            batch, size, done, made = [], 0, done + size, made + 1
        for row, length in enumerate(rows):
            if batch and size + length > budget:
                yield batch
                batch, size, done, made = [], 0, done + size, made + 1
            batch.append((group, row))
            size += length
    if batch:
        yield batch
