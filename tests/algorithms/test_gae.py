import pytest
import torch

from posttrain.algorithms.gae import gae
from posttrain.algorithms.rewards import token_rewards

REWARDS = torch.tensor([0.0, 0.0, 1.0, 2.0])
VALUES = torch.tensor([0.5, 0.4, 0.6, 1.5])
LENGTHS = [3, 1]


def test_hand_numbers() -> None:
    """γ = 1, λ = ½. Row 1: δ = 0.4 - 0.5, 0.6 - 0.4, 1 - 0.6 = -0.1, 0.2, 0.4; A₃ = 0.4, A₂ = 0.2 + ½·0.4, A₁ = -0.1 + ½·0.4."""
    found = gae(REWARDS, VALUES, LENGTHS, gamma=1.0, lam=0.5)
    assert found.tolist() == pytest.approx([0.1, 0.4, 0.4, 0.5])


def test_the_discount_shrinks_the_future() -> None:
    """γ = ½, λ = 1: returns ¼, ½, 1 and 2, minus the values."""
    found = gae(REWARDS, VALUES, LENGTHS, gamma=0.5, lam=1.0)
    assert found.tolist() == pytest.approx([-0.25, 0.1, 0.4, 0.5])


def test_lambda_one_is_the_return_minus_the_value_and_lambda_zero_one_step() -> None:
    whole = gae(REWARDS, VALUES, LENGTHS, gamma=1.0, lam=1.0)
    assert (whole + VALUES).tolist() == pytest.approx([1, 1, 1, 2])
    step = gae(REWARDS, VALUES, LENGTHS, gamma=1.0, lam=0.0)
    assert step.tolist() == pytest.approx([-0.1, 0.2, 0.4, 0.5])


def test_a_perfect_critic_leaves_no_advantage() -> None:
    assert gae(REWARDS, torch.tensor([1.0, 1.0, 1.0, 2.0]), LENGTHS, gamma=1.0, lam=0.3).abs().max() == 0


def test_a_row_cut_off_goes_on_with_the_value_after_it() -> None:
    """The first row ends at 0.8 instead of nothing: its last δ grows by γ·0.8, which λ hands back; the second row is another's."""
    ended = gae(REWARDS, VALUES, LENGTHS, gamma=1.0, lam=0.5, after_R=torch.zeros(2))
    going_on = gae(REWARDS, VALUES, LENGTHS, gamma=1.0, lam=0.5, after_R=torch.tensor([0.8, 0.0]))
    assert ended.tolist() == gae(REWARDS, VALUES, LENGTHS, gamma=1.0, lam=0.5).tolist()
    assert (going_on - ended).tolist() == pytest.approx([0.2, 0.4, 0.8, 0.0])


def test_rows_do_not_meet() -> None:
    """Each row alone gives what it gives beside longer ones; rows without tokens give nothing."""
    alone = [gae(r, v, [len(r)], gamma=0.9, lam=0.7) for r, v in ((REWARDS[:3], VALUES[:3]), (REWARDS[3:], VALUES[3:]))]
    together = gae(REWARDS, VALUES, [3, 0, 1], gamma=0.9, lam=0.7)
    assert together.tolist() == pytest.approx(torch.cat(alone).tolist())
    assert gae(torch.zeros(0), torch.zeros(0), [], gamma=1.0, lam=1.0).tolist() == []


def test_token_rewards_pay_at_the_end_and_charge_the_kl_on_the_way() -> None:
    kl = torch.tensor([0.5, -0.2, 0.1, 1.0])
    found = token_rewards(torch.tensor([1.0, 2.0]), kl, LENGTHS, 0.1)
    assert found.tolist() == pytest.approx([-0.05, 0.02, 0.99, 1.9])
    assert kl.tolist() == pytest.approx([0.5, -0.2, 0.1, 1.0])  # not changed in place
