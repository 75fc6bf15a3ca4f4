import pytest
import torch

from posttrain.algorithms.value import explained_variance, value_loss
from posttrain.algorithms.whitening import whiten


def test_hand_numbers_and_gradients() -> None:
    """Return 1, old value 0, range 0.2. At 0.1: ½·0.9². At 0.5 the clipped 0.2 is the worse: ½·0.8², and no gradient is left.
    At 1.5 the plain square is ½·0.5² and the clipped one ½·0.8². At -0.5 the plain one is the worse: ½·1.5², with its gradient."""
    values = torch.tensor([0.1, 0.5, 1.5, -0.5], requires_grad=True)
    found = value_loss(values, torch.zeros(4), torch.ones(4), 0.2)
    assert found.loss_L.tolist() == pytest.approx([0.405, 0.32, 0.32, 1.125])
    assert found.clipped_L.tolist() == [False, True, True, False]
    found.loss_L.sum().backward()
    assert values.grad is not None and values.grad.tolist() == pytest.approx([-0.9, 0, 0, -1.5])


def test_without_a_range_it_is_half_the_square() -> None:
    values = torch.tensor([0.5, 3.0], requires_grad=True)
    found = value_loss(values, torch.zeros(2), torch.ones(2), None)
    assert found.loss_L.tolist() == pytest.approx([0.125, 2.0])
    assert not found.clipped_L.any()
    found.loss_L.sum().backward()
    assert values.grad is not None and values.grad.tolist() == pytest.approx([-0.5, 2.0])  # V - R: downhill is towards R


def test_explained_variance() -> None:
    returns = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == pytest.approx(1.0)
    assert explained_variance(returns + 7, returns) == pytest.approx(1.0)  # an offset is no spread
    assert explained_variance(torch.full((4,), 0.3), returns) == pytest.approx(0.0)
    assert explained_variance(returns / 2, returns) == pytest.approx(0.75)
    assert explained_variance(-returns, returns) == pytest.approx(-3.0)
    assert explained_variance(returns, torch.ones(4)) is None


def test_whitening() -> None:
    """Mean 2, population variance 2."""
    values = torch.tensor([0.0, 2.0, 4.0, 2.0])
    assert whiten(values).tolist() == pytest.approx([-(2**0.5), 0, 2**0.5, 0])
    assert whiten(values, shift_mean=False).tolist() == pytest.approx([2 - 2**0.5, 2, 2 + 2**0.5, 2])
    assert whiten(torch.full((3,), 0.7)).abs().max() < 1e-2  # nothing differs: nothing is made up
