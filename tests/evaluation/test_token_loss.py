"""The change of the loss on documents: by hand, paired, and honest when there is nothing."""

from __future__ import annotations

import random

import pytest

from posttrain.evaluation.token_loss import change


def test_by_hand() -> None:
    found = change([(10.0, 5), (30.0, 10)], [(8.0, 5), (25.0, 10)])
    assert (found.before, found.after) == pytest.approx((40 / 15, 33 / 15))
    assert found.difference == pytest.approx(-7 / 15)
    assert found.low == pytest.approx(-5 / 10) and found.high == pytest.approx(-2 / 5)  # both resamples of one document
    assert (found.documents, found.tokens, found.better) == (2, 15, 2)


def test_pairing_sees_a_small_change_among_very_different_documents() -> None:
    draw = random.Random(0)
    tokens = [draw.randint(100, 900) for _ in range(40)]
    before = [(count * draw.uniform(1, 6), count) for count in tokens]
    after = [(loss - 0.05 * count + draw.gauss(0, 0.02) * count, count) for loss, count in before]
    found = change(before, after)
    assert found.low < -0.05 < found.high < 0


def test_no_change_has_an_interval_around_zero() -> None:
    draw = random.Random(1)
    before = [(100 * draw.uniform(1, 6), 100) for _ in range(40)]
    after = [(loss + draw.gauss(0, 10), count) for loss, count in before]
    found = change(before, after)
    assert found.low < 0 < found.high
    assert change(before, after) == found


def test_losses_of_other_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="not of the same documents"):
        change([(1.0, 5)], [(1.0, 6)])
    with pytest.raises(ValueError, match="not of the same documents"):
        change([], [])
