"""The scheduler alone: dense slots, bounds, order. No model, no tensors."""

from __future__ import annotations

import ast
import inspect
import random
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.core.types import Sampling
from posttrain.generation.native import scheduler as module
from posttrain.generation.native.scheduler import Request, Row, Scheduler


def row(prompt: list[int], limit: int = 10) -> Row:
    return Row(Request(array("i", prompt), Sampling(), 0), limit, lambda completion: None, lambda error: None)


def test_it_imports_no_tensors() -> None:
    names = {
        name
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert not any(name and name.startswith(("torch", "transformers", "posttrain.models", "time")) for name in names)


def test_equal_prompts_start_together_in_the_order_their_prompts_came() -> None:
    scheduler = Scheduler(3, 10_000)
    rows = [row(prompt) for prompt in ([1], [2], [1], [2], [3])]
    for waiting in rows:
        scheduler.submit(waiting)
    started, fresh = scheduler.admit()
    assert started == [rows[0], rows[2], rows[1]]
    assert [list(group.prompt) for group in fresh] == [[1], [2]]
    for done in started:
        scheduler.remove(done)
    started, fresh = scheduler.admit()
    assert started == [rows[3], rows[4]]
    assert [list(group.prompt) for group in fresh] == [[3]]  # prompt 2 was kept for the row that waited for it


def test_a_refill_waits_for_an_eighth_of_the_slots() -> None:
    scheduler = Scheduler(16, 10_000)
    for i in range(40):
        scheduler.submit(row([i]))
    started, _ = scheduler.admit()
    assert len(started) == 16
    scheduler.remove(started[0])
    assert scheduler.admit() == ([], [])
    scheduler.remove(started[1])
    assert len(scheduler.admit()[0]) == 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from([256, 640, 4000]))
def test_slots_stay_dense_within_bounds_whatever_comes_and_goes(seed: int, max_rows: int, cache_tokens: int) -> None:
    stream = random.Random(seed)
    scheduler = Scheduler(max_rows, cache_tokens)
    cached: dict[tuple[str, int], object] = {}  # what the engine's cache would hold: slot -> owner
    alive: list[Row] = []
    for _ in range(120):
        action = stream.random()
        if action < 0.4:
            new = row([stream.randrange(4)] * stream.randint(1, 100), stream.randint(1, 60))
            if scheduler.alone(new) <= cache_tokens:
                scheduler.submit(new)
                alive.append(new)
        elif action < 0.7:
            started, fresh = scheduler.admit()
            assert started or scheduler.rows or not scheduler.waiting
            cached |= {("group", group.slot): group for group in fresh} | {("row", new.slot): new for new in started}
        elif action < 0.73:
            moves = scheduler.renew()
            cached |= {(move.what, move.target): cached[move.what, move.source] for move in moves}
        elif alive:
            gone = alive.pop(stream.randrange(len(alive)))
            for move in scheduler.remove(gone):
                cached[move.what, move.target] = cached[move.what, move.source]
        assert len(scheduler.rows) <= max_rows
        assert scheduler.footprint() <= cache_tokens
        assert all(cached["row", i] is running and running.slot == i for i, running in enumerate(scheduler.rows))
        assert all(cached["group", i] is group and group.slot == i for i, group in enumerate(scheduler.groups))
        assert all(group.active == sum(r.group is group for r in scheduler.rows) for group in scheduler.groups)
        assert {id(r) for r in alive} == {id(r) for r in scheduler.rows} | {id(r) for q in scheduler.waiting.values() for r in q}
    for left in alive:
        scheduler.remove(left)
    assert not scheduler.busy
    assert not scheduler.groups
    assert not scheduler.shared
