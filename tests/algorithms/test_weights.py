import pytest

from posttrain.algorithms.advantages import ADVANTAGES
from posttrain.algorithms.family import FAMILY
from posttrain.algorithms.policy import POLICY_LOSSES
from posttrain.algorithms.rewards import overlong_penalty
from posttrain.algorithms.weights import REDUCTIONS, constant, sequence_mean, token_mean


def test_hand_numbers() -> None:
    assert token_mean([1, 3], 10) == [0.25, 0.25]
    assert sequence_mean([1, 4], 10) == [0.5, 0.125]
    assert REDUCTIONS["sequence_sum"]([1, 4, 0], 10) == [0.5, 0.5, 0.5]
    assert constant([1, 4], 10) == [0.05, 0.05]


def test_empty_rows_do_not_dilute_the_mean() -> None:
    assert sequence_mean([2, 0], 10) == [0.5, 0.0]
    assert constant([2, 0], 10)[0] == pytest.approx(0.1)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_nothing_to_train_on_is_zero_not_an_error(name: str) -> None:
    assert all(w == 0 for w in REDUCTIONS[name]([0, 0], 10))


@pytest.mark.parametrize("name", ["token_mean", "sequence_mean"])
def test_means_sum_to_one(name: str) -> None:
    lengths = [3, 1, 7]
    assert sum(w * n for w, n in zip(REDUCTIONS[name](lengths, 9), lengths, strict=True)) == pytest.approx(1)


def test_overlong_punishment() -> None:
    assert overlong_penalty(80, longest=100, buffer=20) == 0
    assert overlong_penalty(90, longest=100, buffer=20) == -0.5
    assert overlong_penalty(100, longest=100, buffer=20) == -1


def test_the_family_names_parts_that_exist() -> None:
    for method in FAMILY.values():
        assert method.advantage in ADVANTAGES
        assert method.policy_loss in POLICY_LOSSES
        assert method.reduction in REDUCTIONS
