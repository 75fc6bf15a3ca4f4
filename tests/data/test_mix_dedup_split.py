"""Mixing, duplicates and held-out rows: exact shares, the same order on every run, nothing lost."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.core.errors import UserError
from posttrain.core.seeds import derive
from posttrain.core.types import Conversation, Message, Passage
from posttrain.data.dedup import DigestSet, unique
from posttrain.data.mix import mix
from posttrain.data.split import hold_out


def letters(text: str, weights: list[float], counts: list[int], seed: int = 0) -> str:
    return "".join(mix([iter(letter * count) for letter, count in zip(text, counts, strict=True)], weights, seed=seed))


class TestMix:
    def test_every_prefix_holds_the_shares(self) -> None:
        mixed = letters("ab", [3.0, 1.0], [900, 900])
        assert all(abs(mixed[:end].count("a") - 0.75 * end) <= 1 for end in range(len(mixed)))
        # 900 a's are used up; the mixture ends there, at 900 : 300.
        assert mixed.count("a") == 900 and mixed.count("b") in (299, 300, 301)

    def test_equal_weights_use_every_row(self) -> None:
        mixed = letters("ab", [1.0, 1.0], [10, 3])
        assert sorted(mixed) == sorted("a" * 10 + "b" * 3) and set(mixed[:4]) == {"a", "b"}

    def test_the_seed_decides_the_order_and_nothing_else_does(self) -> None:
        orders = {seed: letters("abc", [1.0, 1.0, 1.0], [50, 50, 50], seed) for seed in range(8)}
        assert orders[3] == letters("abc", [1.0, 1.0, 1.0], [50, 50, 50], 3)
        assert len({order[:3] for order in orders.values()}) > 1

    def test_a_mixture_is_lazy(self) -> None:
        def endless(letter: str):  # type: ignore[no-untyped-def]
            while True:
                yield letter

        assert len(list(islice(mix([endless("a"), endless("b")], [1.0, 2.0], seed=0), 9))) == 9


def chat(question: str, answer: str, **more: object) -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer)), **more)  # type: ignore[arg-type]


class TestUnique:
    def test_equal_rows_are_dropped_and_counted(self) -> None:
        rows = [
            chat("a", "b", origin="x:1"),
            chat("a", "b", origin="y:9", slices={"k": "v"}),  # the same lesson from elsewhere
            chat("ab", ""),  # not the same text cut in another place
            chat("a", "b", context=1),  # other turns are learnt
            Passage("b", "a"),
            Passage("ab"),
            Passage("ab"),
        ]
        found = unique(rows)
        assert list(found) == [rows[0], *rows[2:6]] and found.dropped == 2

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(st.lists(st.integers(0, 2**64 - 1), max_size=3000))
    def test_digest_set_is_a_set(self, values: list[int]) -> None:
        values = [value % 997 if value % 3 else value for value in values]  # with repetitions, and with clashing slots
        digests, known = DigestSet(), set[int]()
        for value in (value or 1 for value in values):
            assert digests.add(value) == (value not in known)
            known.add(value)
        assert len(digests) == len(known)

    def test_digest_set_grows(self) -> None:
        digests, values = DigestSet(), [derive(0, number) for number in range(20_000)]
        assert all(digests.add(value) for value in values) and not any(digests.add(value) for value in values)


class TestHoldOut:
    def test_sides_are_apart_and_complete(self) -> None:
        training, held = hold_out(100, 7, seed=3)
        assert len(held) == 7 and sorted([*training, *held]) == list(range(100))
        assert hold_out(100, 7, seed=3) == (training, held) != hold_out(100, 7, seed=4)

    def test_nothing_left_to_train_on(self) -> None:
        with pytest.raises(UserError, match="validation is 5, but there are only 5 rows"):
            hold_out(5, 5, seed=0)
