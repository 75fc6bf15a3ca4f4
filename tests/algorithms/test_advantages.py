import pytest
import torch

from posttrain.algorithms.advantages import ADVANTAGES

ALL = torch.ones(1, 4, dtype=torch.bool)


def test_hand_worked_numbers() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    # mean 0.5, deviations ±0.5, sample standard deviation sqrt(4·0.25/3) = 0.57735
    assert ADVANTAGES["group_centred"](rewards, ALL).tolist() == [[0.5, -0.5, -0.5, 0.5]]
    assert ADVANTAGES["group_normalised"](rewards, ALL)[0, 0].item() == pytest.approx(0.5 / 0.57735, rel=1e-4)
    # leave one out: 1 - (0 + 0 + 1)/3 = 2/3
    assert ADVANTAGES["leave_one_out"](rewards, ALL)[0].tolist() == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])


def test_batch_normalised_uses_one_spread_for_all_tasks() -> None:
    rewards = torch.tensor([[1.0, 0.0], [10.0, 0.0]])
    out = ADVANTAGES["batch_normalised"](rewards, torch.ones(2, 2, dtype=torch.bool))
    assert (out[1, 0] / out[0, 0]).item() == pytest.approx(10)
    assert out.square().sum().item() / 3 == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_unscored_rollouts_change_nothing(name: str) -> None:
    three = ADVANTAGES[name](torch.tensor([[1.0, 0.0, 0.5]]), torch.ones(1, 3, dtype=torch.bool))
    with_unscored = ADVANTAGES[name](torch.tensor([[1.0, 0.0, 0.5, 1e9]]), torch.tensor([[True, True, True, False]]))
    assert torch.allclose(with_unscored[:, :3], three)
    assert with_unscored[0, 3] == 0


@pytest.mark.parametrize("name", ADVANTAGES)
def test_no_signal_means_zero_and_never_nan(name: str) -> None:
    assert ADVANTAGES[name](torch.ones(2, 4), torch.ones(2, 4, dtype=torch.bool)).abs().max() == 0
    lonely = ADVANTAGES[name](torch.tensor([[1.0, 7.0]]), torch.tensor([[True, False]]))
    assert lonely.abs().max() == 0
    assert ADVANTAGES[name](torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool)).abs().max() == 0


@pytest.mark.parametrize("name", ADVANTAGES)
def test_advantages_of_a_full_group_sum_to_zero(name: str) -> None:
    rewards = torch.tensor([[0.3, 0.9, 0.1, 0.4], [1.0, 0.0, 0.2, 0.2]])
    assert ADVANTAGES[name](rewards, torch.ones(2, 4, dtype=torch.bool)).sum(-1).abs().max() < 1e-5
