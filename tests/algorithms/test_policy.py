import math

import pytest
import torch

from posttrain.algorithms.policy import POLICY_LOSSES, clipped, sequence_clipped, truncated_importance, weighted_likelihood

ROWS = torch.tensor([0, 0, 1])


def test_clipped_hand_numbers() -> None:
    logprobs = torch.tensor([math.log(1.5), math.log(0.5), math.log(1.1)], requires_grad=True)
    advantages = torch.tensor([1.0, -1.0, 2.0])
    out = clipped(logprobs, torch.zeros(3), advantages, ROWS, 0.2, 0.2)
    # min(1.5, 1.2)·1; min(-0.5, -0.8); min(2.2, 2.2)
    assert out.loss_L.tolist() == pytest.approx([-1.2, 0.8, -2.2])
    assert out.high_L.tolist() == [True, False, False]
    assert out.low_L.tolist() == [False, True, False]
    out.loss_L.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([0.0, 0.0, -2.2])  # clipped tokens have no gradient


def test_clip_does_not_protect_the_harmful_side() -> None:
    """A token made likelier though its advantage is negative keeps its gradient."""
    logprobs = torch.tensor([math.log(1.5)], requires_grad=True)
    clipped(logprobs, torch.zeros(1), torch.tensor([-1.0]), torch.tensor([0]), 0.2, 0.2).loss_L.sum().backward()
    assert logprobs.grad is not None and logprobs.grad.item() == pytest.approx(1.5)


def test_sequence_ratio_is_the_geometric_mean() -> None:
    logprobs = torch.tensor([0.3, 0.1, 0.5], requires_grad=True)
    out = sequence_clipped(logprobs, torch.zeros(3), torch.ones(3), ROWS, 1.0, 10.0)
    assert out.loss_L.tolist() == pytest.approx([-math.exp(0.2), -math.exp(0.2), -math.exp(0.5)])
    out.loss_L.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-math.exp(0.2), -math.exp(0.2), -math.exp(0.5)])


def test_cispo_keeps_a_gradient_where_ppo_has_none() -> None:
    logprobs = torch.tensor([math.log(3.0)], requires_grad=True)
    out = weighted_likelihood(logprobs, torch.zeros(1), torch.tensor([1.0]), torch.tensor([0]), 1.0, 0.28)
    out.loss_L.sum().backward()
    assert logprobs.grad is not None and logprobs.grad.item() == pytest.approx(-1.28)
    assert out.high_L.tolist() == [True]


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_gradient_at_ratio_one_is_minus_the_advantage(name: str) -> None:
    logprobs = torch.tensor([-0.7, -1.1, -2.0], requires_grad=True)
    advantages = torch.tensor([0.5, 0.5, -2.0])
    POLICY_LOSSES[name](logprobs, logprobs.detach(), advantages, ROWS, 0.2, 0.2).loss_L.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx((-advantages).tolist())


def test_importance_is_truncated_and_detached() -> None:
    trainer = torch.tensor([0.0, 3.0], requires_grad=True)
    out = truncated_importance(trainer, torch.tensor([0.5, 0.0]), 2.0)
    assert out.tolist() == pytest.approx([math.exp(-0.5), 2.0])
    assert not out.requires_grad
