"""Encoded preferences come back as they were written, labels and answers' numbers included; a torn store is none."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from posttrain.core.types import Pair, ints
from posttrain.data.preference_store import Encoded, PreferenceStore, PreferenceStoreWriter


def row(*tokens: int) -> Encoded:
    return ints(tokens), array("b", [0] + [1] * (len(tokens) - 1))


def written(folder: Path) -> PreferenceStore:
    with PreferenceStoreWriter(folder / "rows") as writer:
        writer.append([row(1, 2), row(1, 3, 4), row(1, 5)], [Pair(1, 0), Pair(1, 2, 0.75, 0.5)], 7)
        writer.append([row(8, 9)], [], 11, [False])
    return PreferenceStore(folder / "rows")


def test_written_and_read_again(tmp_path: Path) -> None:
    store = written(tmp_path)
    assert len(store) == 2 and [store.prompt(i) for i in range(2)] == [7, 11]
    first, second = store[0], store[1]
    assert [list(tokens) for tokens in first.rows] == [[1, 2], [1, 3, 4], [1, 5]]
    assert list(first.masks[1]) == [0, 1, 1]
    assert list(first.pairs) == [Pair(1, 0), Pair(1, 2, 0.75, 0.5)] and not first.labels
    assert list(second.labels) == [False] and not second.pairs
    assert [store.numbers(i) for i in range(2)] == [range(3), range(3, 4)]


def test_what_is_not_there_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="preference 2 of 2"):
        written(tmp_path)[2]


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), PreferenceStoreWriter(tmp_path / "rows") as writer:
        writer.append([row(1, 2), row(1, 3)], [Pair(0, 1)], 0)
        raise ZeroDivisionError
    assert not any(tmp_path.iterdir())
