"""Ratios, intervals and the signed-rank test, by numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks.growth import fitted
from benchmarks.statistics import bootstrap, log_ratio, ratio, signed_rank


def test_a_blocks_log_ratio_is_of_geometric_means():
    # ours 1 and 4 s (geometric mean 2), the peer 2 and 32 s (8): four times as long
    assert log_ratio([1, 4], [2, 32]) == pytest.approx(math.log(4))


def test_drift_within_a_block_cancels_in_the_palindrome():
    # the machine gets 10 % slower at each of four places; A B B A with the peer twice as slow
    a1, b1, b2, a2 = 1.0 * 1.1**0, 2.0 * 1.1**1, 2.0 * 1.1**2, 1.0 * 1.1**3
    assert math.exp(log_ratio([a1, a2], [b1, b2])) == pytest.approx(2)


def test_the_ratio_is_the_exponential_of_the_mean():
    found = ratio([math.log(2), math.log(8)])
    assert found.value == pytest.approx(4)
    assert found.median == pytest.approx(4)
    assert (found.low, found.high) == (pytest.approx(2), pytest.approx(8))
    assert found.blocks == 2


def test_the_interval_of_equal_values_is_a_point_and_of_others_holds_the_mean():
    assert bootstrap([0.5] * 5) == (0.5, 0.5)
    low, high = bootstrap([0.0, 0.1, 0.2, 0.3, 0.4])
    assert 0.0 < low < 0.2 < high < 0.4


def test_the_interval_is_the_same_every_time():
    assert bootstrap([0.3, 0.1, 0.5]) == bootstrap([0.3, 0.1, 0.5])


def test_signed_rank_by_hand():
    # five of one sign: of 32 sign patterns 2 are as extreme
    assert signed_rank([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    # ranks 1 2 3, the smallest negative: rank sums 5 and 1, half is 3, distance 2; 0,1,5,6 are as far: 4 of 8
    assert signed_rank([-1, 2, 3]) == pytest.approx(4 / 8)
    # two equal sizes of other signs share rank 1.5: nothing is nearer to the middle
    assert signed_rank([1, -1]) == pytest.approx(1)


def test_signed_rank_says_nothing_without_values_or_of_too_many():
    assert signed_rank([0.0, 0.0]) is None
    assert signed_rank([1.0] * 16) is None


def test_the_exponent_of_a_power_law_is_found():
    points = {str(size): {"seconds": 3e-4 * size**2} for size in (10, 100, 1000)}
    assert fitted(points) == {"exponent": pytest.approx(2), "last_exponent": pytest.approx(2)}
