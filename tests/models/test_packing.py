"""Packing: what is shared is stored once, and every token sees exactly what its own row shows it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.core.types import TokenRow, floats, ints
from posttrain.models.packed_attention import blocks, visible
from posttrain.models.packing import common_prefix, micro_batches, pack, pack_tokens


def row(tokens: list[int], trained_from: int) -> TokenRow:
    n = len(tokens)
    return TokenRow(ints(tokens), ints(int(i >= trained_from) for i in range(n)), floats([0.0] * n), ints([0] * n))


def test_a_shared_prompt_by_hand() -> None:
    tokens, positions, reach, where = pack_tokens([[1, 2, 3, 7], [1, 2, 3, 8, 9]], min_shared=1)
    assert tokens == [1, 2, 3, 7, 8, 9]
    assert positions == [0, 1, 2, 3, 3, 4]
    assert reach == [6, 6, 6, 4, 6, 6]
    assert where == [[0, 1, 2, 3], [0, 1, 2, 4, 5]]


def test_one_position_predicts_the_first_token_of_every_completion() -> None:
    prompt = list(range(10, 20))
    batch = pack([row([*prompt, 5, 6], 10), row([*prompt, 7], 10)])
    assert batch.source_L.tolist() == [9, 10, 9]
    assert batch.target_L.tolist() == [5, 6, 7]
    assert batch.row_L.tolist() == [0, 0, 1]


def test_short_prefixes_are_not_shared() -> None:
    tokens, *_ = pack_tokens([[1, 2, 5], [1, 2, 6]], min_shared=3)
    assert len(tokens) == 6


def test_a_trained_first_token_is_refused() -> None:
    with pytest.raises(ValueError, match="first token"):
        pack([row([1, 2], 0)])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=6), st.integers(1, 3))
def test_each_token_sees_its_own_row_and_nothing_else(rows: list[list[int]], min_shared: int) -> None:
    tokens, positions, reach, where = pack_tokens(rows, min_shared=min_shared)
    sees = visible(reach, torch.device("cpu"))
    for r, places in enumerate(where):
        assert [tokens[i] for i in places] == rows[r]
        assert [positions[i] for i in places] == list(range(len(rows[r])))
        for t, i in enumerate(places):
            assert sees[i].nonzero()[:, 0].tolist() == places[: t + 1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=7), min_size=1, max_size=6))
def test_blocks_cover_the_visible_pairs_once(rows: list[list[int]]) -> None:
    _, _, reach, _ = pack_tokens(rows, min_shared=1)
    count = torch.zeros(len(reach), len(reach), dtype=torch.long)
    plan = blocks(reach)
    for each in plan.buckets:
        seen = each.hidden.expand(len(each.keys_RS), -1, -1) == 0
        for queries, real, keys, sees in zip(each.queries_RT, each.real_RT, each.keys_RS, seen, strict=True):
            for place in real.nonzero()[:, 0]:
                count[queries[place]].index_add_(0, keys[sees[place]], torch.ones(int(sees[place].sum()), dtype=torch.long))
    for run in plan.alone:
        count[run, run] += torch.ones(run.stop - run.start, run.stop - run.start, dtype=torch.long).tril()
    for queries, keys in plan.later:
        count[queries, keys] += 1
    assert (count == visible(reach, torch.device("cpu")).long()).all()


@given(st.lists(st.integers(0, 1), max_size=12), st.lists(st.integers(0, 1), max_size=12))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), max_size=6), st.integers(5, 20))
def test_micro_batches_lose_no_row_and_keep_to_the_budget(lengths: list[list[int]], budget: int) -> None:
    batches = list(micro_batches(lengths, budget))
    assert [pair for batch in batches for pair in batch] == [(g, r) for g, rows in enumerate(lengths) for r in range(len(rows))]
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[g][r] for g, r in batch) <= budget


def test_micro_batches_are_of_similar_size() -> None:
    batches = list(micro_batches([[100]] * 9, 800))  # two are needed
    assert [len(batch) for batch in batches] == [5, 4]
    assert [len(batch) for batch in micro_batches([[100]] * 8, 800)] == [8]
