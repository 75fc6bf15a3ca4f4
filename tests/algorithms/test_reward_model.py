"""Pair losses and pair metrics by hand."""

from __future__ import annotations

import math

import pytest
import torch

from posttrain.algorithms.pair_metrics import (
    brier,
    calibration_error,
    centred,
    correlation,
    length_balanced,
    ordered,
    reliability,
    sigmoid,
)
from posttrain.algorithms.reward_model import bradley_terry, centring, pair_weights, smoothed


def test_bradley_terry_by_hand() -> None:
    """log(1 + e^-z) at z = 0, 2 and -2."""
    loss = bradley_terry(torch.tensor([1.0, 3.0, 0.0]), torch.tensor([1.0, 1.0, 2.0]))
    assert loss.tolist() == pytest.approx([math.log(2), 0.126928, 2.126928], abs=1e-5)


def test_a_margin_asks_for_more() -> None:
    """z = 2 - 1 = 1: log(1 + e^-1)."""
    assert bradley_terry(torch.tensor([3.0]), torch.tensor([1.0]), margin_P=torch.tensor([1.0])).item() == pytest.approx(0.313262)


def test_a_soft_label_by_hand() -> None:
    """0.7·log(1 + e^-1) + 0.3·log(1 + e)."""
    loss = bradley_terry(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([0.7]))
    assert loss.item() == pytest.approx(0.7 * 0.313262 + 0.3 * 1.313262, abs=1e-5)


@pytest.mark.parametrize(
    ("probability", "margin", "distance"), [(0.7, 0.0, math.log(0.7 / 0.3)), (0.5, 0.0, 0.0), (0.7, 2.0, 2 + math.log(0.7 / 0.3))]
)
def test_a_soft_label_pulls_to_its_log_odds(probability: float, margin: float, distance: float) -> None:
    better = torch.tensor([distance], requires_grad=True)
    bradley_terry(better, torch.tensor([0.0]), probability, margin).sum().backward()
    assert better.grad is not None and better.grad.item() == pytest.approx(0.0, abs=1e-6)


def test_the_gradient_raises_the_better_and_lowers_the_worse() -> None:
    """By σ(-z): a half at z = 0, little where the order is right already."""
    better, worse = torch.tensor([0.0, 4.0], requires_grad=True), torch.tensor([0.0, 0.0], requires_grad=True)
    bradley_terry(better, worse).sum().backward()
    assert better.grad is not None and worse.grad is not None
    assert better.grad.tolist() == pytest.approx([-0.5, -sigmoid(-4)]) and torch.equal(worse.grad, -better.grad)


def test_centring_pulls_the_sum_to_zero_and_leaves_the_difference() -> None:
    better, worse = torch.tensor([2.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    loss = centring(better, worse)
    loss.sum().backward()
    assert loss.item() == 9.0 and better.grad == worse.grad == torch.tensor([6.0])


def test_smoothing_by_hand() -> None:
    assert smoothed(1.0, 0.1) == pytest.approx(0.9) and smoothed(0.0, 0.1) == pytest.approx(0.1)
    assert smoothed(0.5, 0.3) == pytest.approx(0.5) and smoothed(0.8, 0.0) == 0.8


def test_all_pairs_of_a_prompt_are_one_element() -> None:
    """Three ranked answers make 3 pairs, two make 1; both prompts count a half."""
    assert pair_weights([3, 1, 0]) == pytest.approx([1 / 6, 1 / 2, 0.0])
    rewards = torch.tensor([2.0, 1.0, 0.0])
    better, worse = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
    loss = (bradley_terry(rewards[better], rewards[worse]) * torch.tensor(pair_weights([3])).repeat(3)).sum()
    assert loss.item() == pytest.approx((2 * 0.313262 + 0.126928) / 3, abs=1e-5)  # differences 1, 2, 1 by K-choose-2


def test_accuracy_counts_ties_as_wrong_and_undecided_labels_not_at_all() -> None:
    assert [ordered(1.0), ordered(0.0), ordered(-1.0)] == [True, False, False]
    assert ordered(-1.0, 0.2) is True and ordered(1.0, 0.5) is None


def test_brier_by_hand() -> None:
    """Saying one half is 1/4; being sure and wrong is 1."""
    assert brier([0.0], [1.0]) == 0.25
    assert brier([50.0, -50.0], [1.0, 1.0]) == pytest.approx(0.5)


def test_calibration_by_hand() -> None:
    """Four pairs at confidence σ(2) = 0.881, three of them right: a gap of 0.131. One at one half is well calibrated."""
    differences, labels = [2.0, 2.0, -2.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]
    bins = reliability(differences, labels)
    assert [each["n"] for each in bins] == [1, 4]
    assert bins[0] == {"confidence": 0.5, "accuracy": 0.5, "n": 1}
    assert bins[1]["accuracy"] == 0.75 and bins[1]["confidence"] == pytest.approx(0.880797)
    assert calibration_error(bins) == pytest.approx(4 / 5 * 0.130797, abs=1e-6)
    assert math.isnan(calibration_error([]))


def test_correlation_by_hand() -> None:
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    assert correlation([1, 1], [1, 2]) is None and correlation([1], [1]) is None


def test_what_a_prompt_shares_is_taken_out() -> None:
    assert centred([[1.0, 3.0], [10.0], []]) == [-1.0, 1.0, 0.0]


def test_a_model_of_length_alone_is_balanced_to_a_half() -> None:
    """It gets every pair right whose better answer is longer and no other, however many of each there are."""
    lengths = [5, 3, 4, 1, -2, 0]
    right = [d > 0 for d in lengths]
    assert length_balanced(right, lengths) == 0.5
    assert length_balanced([True], [3]) is None
