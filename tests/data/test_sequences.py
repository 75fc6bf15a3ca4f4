"""Packing documents into sequences: by hand, nothing lost, nothing learnt twice, shares of tokens as asked for."""

from __future__ import annotations

import random

import pytest

from posttrain.data.sequences import alone, mixed, pieces, sequences

END = 0


def plain(found: list[tuple]) -> list[tuple[list[int], list[int]]]:
    return [(list(tokens), list(mask)) for tokens, mask in found]


def test_by_hand() -> None:
    documents = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    assert plain(list(sequences(documents, 8, END, cross=False))) == [
        ([0, 1, 2, 3, 0, 0, 4, 0], [0, 1, 1, 1, 1, 0, 1, 1]),
        ([0, 5, 6, 7, 8, 9, 0], [0, 1, 1, 1, 1, 1, 1]),
    ]


def test_a_document_that_does_not_fit_goes_on_behind_the_token_it_was_cut_after() -> None:
    assert plain(list(sequences([[1, 2, 3, 4, 5, 6]], 5, END, cross=False))) == [
        ([0, 1, 2, 3, 4], [0, 1, 1, 1, 1]),
        ([4, 5, 6, 0], [0, 1, 1, 1]),
    ]


def test_across_documents_only_the_first_token_of_a_sequence_is_not_learnt() -> None:
    assert plain(list(sequences([[1, 2], [3, 4, 5]], 5, END, cross=True))) == [
        ([0, 1, 2, 0, 3], [0, 1, 1, 1, 1]),
        ([3, 4, 5, 0], [0, 1, 1, 1]),
    ]


@pytest.mark.parametrize("cross", [False, True])
def test_every_token_of_every_document_is_learnt_once_and_sequences_are_full(cross: bool) -> None:
    stream = random.Random(0)
    documents = [[stream.randint(1, 99) for _ in range(stream.randint(1, 60))] for _ in range(50)]
    found = list(sequences(documents, 32, END, cross=cross))
    learnt = [token for tokens, mask in found for token, m in zip(tokens, mask, strict=True) if m]
    assert learnt == [token for document in documents for token in [*document, END]]
    lengths = [len(tokens) for tokens, _ in found]
    assert all(length in (31, 32) for length in lengths[:-1]) and (not cross or set(lengths[:-1]) == {32})
    assert all(mask[0] == 0 for _, mask in found)


def test_the_mask_gives_the_pieces_back() -> None:
    (sequence,) = sequences([[1, 2, 3], [4]], 99, END, cross=False)
    assert plain(pieces(*sequence)) == [([0, 1, 2, 3, 0], [0, 1, 1, 1, 1]), ([0, 4, 0], [0, 1, 1])]


def test_a_document_alone_is_cut() -> None:
    assert plain([alone([1, 2, 3, 4], 4, END), alone([1], 4, END)]) == [([0, 1, 2, 3], [0, 1, 1, 1]), ([0, 1, 0], [0, 1, 1])]


def test_shares_are_of_tokens_though_documents_differ_in_length() -> None:
    """Long documents of weight 1, short ones of weight 3: by documents the shares would be far off."""
    took = [0, 0]

    def note(number: int, tokens: int) -> None:
        took[number] += tokens

    long, short = iter([[1] * 400] * 100), iter([[2] * 10] * 10_000)
    mixture = mixed([long, short], [1.0, 3.0], note)
    for _ in range(1000):
        next(mixture)
    assert abs(took[1] / sum(took) - 0.75) < 0.02


def test_equal_weights_use_everything_and_unequal_ones_end_with_the_first_source() -> None:
    def streams() -> list:
        return [iter([[1]] * 3), iter([[2]] * 9)]

    assert len(list(mixed(streams(), [1, 1], lambda *_: None))) == 12
    assert [d[0] for d in mixed(streams(), [1, 2], lambda *_: None)].count(1) == 3
    assert len(list(mixed(streams(), [1, 2], lambda *_: None))) < 12
