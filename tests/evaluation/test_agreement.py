"""Agreement statistics against numbers worked out by hand."""

from __future__ import annotations

import pytest

from posttrain.core.agreement import (
    agreement,
    gwet_ac1,
    kappa,
    precision_recall,
    quadratic_kappa,
    ranks,
    spearman,
    with_interval,
)

TABLE = [(1.0, 1.0)] * 20 + [(1.0, 0.0)] * 5 + [(0.0, 1.0)] * 10 + [(0.0, 0.0)] * 15
"""Both yes 20, first only 5, second only 10, both no 15."""


def test_kappa_and_ac1_of_a_two_by_two_table() -> None:
    """p_o = 35/50 = 0.7. kappa: p_e = 0.5*0.6 + 0.5*0.4 = 0.5, so 0.2/0.5 = 0.4.
    AC1: π = (0.5 + 0.6)/2 = 0.55, p_e = 2*0.55*0.45 = 0.495, so 0.205/0.505."""
    assert agreement(TABLE) == pytest.approx(0.7)
    assert kappa(TABLE) == pytest.approx(0.4)
    assert gwet_ac1(TABLE) == pytest.approx(0.205 / 0.505)


def test_the_paradox_of_kappa() -> None:
    """94 of 100 agree, nearly all of them yes. p_e = 0.97² + 0.03² = 0.9418: kappa = -0.0018/0.0582 < 0, though
    AC1 = (0.94 - 0.0582)/(1 - 0.0582) = 0.936."""
    skewed = [(1.0, 1.0)] * 94 + [(1.0, 0.0)] * 3 + [(0.0, 1.0)] * 3
    assert kappa(skewed) == pytest.approx(-0.0018 / 0.0582, abs=1e-9)
    assert gwet_ac1(skewed) == pytest.approx(0.8818 / 0.9418)


def test_quadratic_weights_punish_far_misses() -> None:
    """Three items (1,1), (2,3), (3,3) of categories 1 2 3. Observed cost 1/3. Expected: shares 1/3 1/3 1/3 against 1/3 0 2/3:
    (1/9)(0 + 1 + 4) + (2/9)(4 + 1 + 0) = 15/9. So 1 - (1/3)/(15/9) = 0.8; unweighted: p_o = 2/3, p_e = 1/9 + 2/9, so 0.5."""
    pairs = [(1.0, 1.0), (2.0, 3.0), (3.0, 3.0)]
    assert quadratic_kappa(pairs) == pytest.approx(0.8)
    assert kappa(pairs) == pytest.approx(0.5)


def test_perfect_chance_and_undefined() -> None:
    assert kappa([(0.0, 0.0), (1.0, 1.0)]) == 1.0 == gwet_ac1([(0.0, 0.0), (1.0, 1.0)])
    assert kappa([(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]) == pytest.approx(0.0)
    assert kappa([(1.0, 1.0)] * 5) is None and kappa([]) is None and gwet_ac1([]) is None


def test_intervals_hold_the_value_shrink_with_n_and_repeat() -> None:
    small, large = with_interval(TABLE, kappa), with_interval(TABLE * 8, kappa)
    assert small == with_interval(TABLE, kappa)
    assert small.low < 0.4 < small.high and large.low < 0.4 < large.high  # type: ignore[operator]
    assert large.high - large.low < (small.high - small.low) / 2  # type: ignore[operator]


def test_precision_recall_and_rank_correlation() -> None:
    pairs = [(True, True), (True, False), (False, True), (True, True)]
    assert precision_recall(pairs, True) == {"precision": pytest.approx(2 / 3), "recall": pytest.approx(2 / 3), "n": 3}
    assert precision_recall(pairs, False) == {"precision": 0.0, "recall": 0.0, "n": 1}
    assert ranks([10, 20, 10]) == [1.5, 3.0, 1.5]
    assert spearman([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1.0) == -(spearman([1, 2, 3], [3, 2, 1]) or 0)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
