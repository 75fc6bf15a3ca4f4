"""Who runs when. Plain Python, no tensors, no clock: what is admitted follows from what was submitted, in order.

Rows are completions being written, groups are the prompts they share. Both live in dense slots 0..n-1, so that the
cache can be read without gathering: when one leaves, the last moves into its slot, and the caller moves the cached
tensors with it. Waiting requests with equal prompts are admitted together, in the order in which their prompts first
came. A few slots are gathered before a refill, because a prefill for a single prompt costs nearly as much as for many.
"""

from __future__ import annotations

import random
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from posttrain.core.types import Completion, Sampling

Top = tuple[tuple[int, float], ...]
"""The likeliest tokens at one place and their log-probabilities, likeliest first."""

Watch = Callable[[int, float, Top], None]
"""Shown each token of a completion, its log-probability and the likeliest ones, as soon as it is written. Must not raise."""


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to write. Its random stream depends on `seed` alone. `top` asks for that many alternatives at each place."""

    prompt: array[int]
    sampling: Sampling
    seed: int
    top: int = 0
    watch: Watch | None = None


@dataclass(eq=False)
class Group:
    """A prompt whose keys and values are stored once. `hidden` is what its last token predicts from, set by the engine."""

    prompt: array[int]
    slot: int
    active: int = 0
    hidden: Any = None

    @property
    def cached(self) -> int:
        """Tokens whose keys and values its slot holds."""
        return len(self.prompt)


@dataclass(eq=False)
class Row:
    """A completion being written. `limit` is the most tokens it may have; `deliver` is called once, when it ends."""

    request: Request
    limit: int
    deliver: Callable[[Completion], None]
    fail: Callable[[BaseException], None]
    tokens: array[int] = field(default_factory=lambda: array("i"))
    logprobs: array[float] = field(default_factory=lambda: array("f"))
    versions: array[int] = field(default_factory=lambda: array("i"))
    top: list[Top] = field(default_factory=list)
    slot: int = -1
    group: Group | None = None

    def __post_init__(self) -> None:
        self.uniform = random.Random(self.request.seed).random

    @property
    def cached(self) -> int:
        """Tokens whose keys and values its slot holds: the newest has not been read yet."""
        return len(self.tokens) - 1


Held = TypeVar("Held", Row, Group)


@dataclass(frozen=True, slots=True)
class Move:
    """The tensors of slot `source` must be moved to slot `target`: a row's own tokens, or a group's prompt."""

    what: Literal["row", "group"]
    source: int
    target: int
    length: int


def padded_rows(rows: int) -> int:
    """Rows of the batch that runs: few shapes, because each new one costs the matrix library a compilation."""
    return -(-rows // 8) * 8 if rows > 4 else rows if rows != 3 else 4


def padded_tokens(tokens: int) -> int:
    """Tokens that a slot is given: blocks of 32, so that the cache is not laid out anew at every step."""
    return -(-tokens // 32) * 32


@dataclass(eq=False)
class Scheduler:
    """Bounded by `max_rows` rows at a time and `cache_tokens` tokens of keys and values, padding included."""

    max_rows: int
    cache_tokens: int
    rows: list[Row] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    waiting: dict[bytes, deque[Row]] = field(default_factory=dict)
    shared: dict[bytes, Group] = field(default_factory=dict)

    def submit(self, row: Row) -> None:
        self.waiting.setdefault(row.request.prompt.tobytes(), deque()).append(row)

    @property
    def busy(self) -> bool:
        return bool(self.rows or self.waiting)

    def alone(self, row: Row) -> int:
        """Tokens of cache that a row needs with nothing beside it."""
        return padded_tokens(row.limit) + padded_tokens(len(row.request.prompt))

    def footprint(self, extra: Row | None = None) -> int:
        """Tokens of cache that the running rows may come to need, with `extra` among them."""
        rows = [*self.rows, extra] if extra else self.rows
        if not rows:
            return 0
        new = extra is not None and extra.request.prompt.tobytes() not in self.shared
        prompts = [len(group.prompt) for group in self.groups] + ([len(extra.request.prompt)] if extra and new else [])
        own = padded_rows(len(rows)) * padded_tokens(max(row.limit for row in rows))
        return own + len(prompts) * padded_tokens(max(prompts))

    def admit(self) -> tuple[list[Row], list[Group]]:
        """Rows that start now, and those of their groups whose prompt must be read first."""
        free, wanted = self.max_rows - len(self.rows), sum(map(len, self.waiting.values()))
        if not wanted or (self.rows and free < min(wanted, max(1, self.max_rows // 8))):
            return [], []
        rows: list[Row] = []
        fresh: list[Group] = []
        for key, queue in list(self.waiting.items()):
            while queue and len(self.rows) < self.max_rows and self.footprint(queue[0]) <= self.cache_tokens:
                group = self.shared.get(key)
                if group is None:
                    group = self.shared[key] = Group(queue[0].request.prompt, len(self.groups))
                    self.groups.append(group)
                    fresh.append(group)
                rows.append(self._start(queue.popleft(), group))
            if queue:
                break
            del self.waiting[key]
        return rows, fresh

    def _start(self, row: Row, group: Group) -> Row:
        row.slot, row.group = len(self.rows), group
        group.active += 1
        self.rows.append(row)
        return row

    def remove(self, row: Row) -> list[Move]:
        """Take a row out, whether it runs or waits (or is out already); returns the moves that keep the slots dense."""
        if row.slot >= 0 and row.group is not None:
            moves = self._fill(self.rows, row, "row")
            row.slot = -1
            row.group.active -= 1
            return moves + self._release_unused()
        key = row.request.prompt.tobytes()
        queue = self.waiting.get(key, deque())
        if row not in queue:
            return []
        queue.remove(row)
        if queue:
            return []
        del self.waiting[key]
        return self._release_unused()

    def renew(self) -> list[Move]:
        """The weights changed: rows that start from now on must not join prompts read with the old ones."""
        self.shared.clear()
        return self._release_unused()

    def _release_unused(self) -> list[Move]:
        """Free the prompts that no row runs on and no waiting row can join."""
        moves: list[Move] = []
        for group in [group for group in self.groups if not group.active]:
            key = group.prompt.tobytes()
            joinable = self.shared.get(key) is group
            if joinable and key in self.waiting:
                continue
            if joinable:
                del self.shared[key]
            moves += self._fill(self.groups, group, "group")
        return moves

    def _fill(self, slots: list[Held], leaving: Held, what: Literal["row", "group"]) -> list[Move]:
        """Put the last of the slots into the place of the one that leaves."""
        last = slots.pop()
        if last is leaving:
            return []
        move = Move(what, last.slot, leaving.slot, last.cached)
        slots[leaving.slot] = last
        last.slot = leaving.slot
        return [move]

    def clear(self) -> list[Row]:
        """Forget everything; returns the rows that were not finished."""
        left = [*self.rows, *(row for queue in self.waiting.values() for row in queue)]
        for state in (self.rows, self.groups, self.waiting, self.shared):
            state.clear()
        return left
