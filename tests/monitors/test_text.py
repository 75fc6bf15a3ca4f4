"""The share of repeated 4-grams, worked by hand."""

import pytest

from posttrain.core.text import pieces, repeated_share


def test_repeated_share_by_hand() -> None:
    assert repeated_share("a b c d a b c d") == pytest.approx(1 / 5)  # 5 four-grams, the last equals the first
    assert repeated_share("one two three four five") == 0.0
    assert repeated_share("one two") == 0.0
    assert repeated_share("go " * 10) == pytest.approx(6 / 7)  # 7 four-grams, one of them new


def test_pieces_without_spaces() -> None:
    assert pieces("7+5=12.") == ["7", "+", "5", "=", "12", "."]
    assert pieces("答案是") == ["答", "案", "是"]
    assert repeated_share("答案" * 10) == pytest.approx(15 / 17)
    assert repeated_share("a" * 100) == pytest.approx(96 / 97)
