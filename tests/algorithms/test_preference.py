"""DPO and its relatives against numbers worked by hand, the sign of their gradients, and what each promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from posttrain.algorithms.preference import (
    LOSSES,
    Answers,
    cdpo,
    dpo,
    dpo_norm,
    expected,
    ipo,
    kto,
    log_odds,
    mismatched_kl,
    nll,
    orpo,
    robust,
    simpo,
)

LN2 = math.log(2)
PAIRED = [name for name, method in LOSSES.items() if method.paired]


def answers(*rows: tuple[float, float, int], gradient: bool = False) -> Answers:
    """(log policy, log reference, tokens) of each answer, in fp64."""
    policy, reference, lengths = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    return Answers(policy.requires_grad_(gradient), reference, lengths)


CHOSEN = answers((-10.0, -12.0, 4))  # ratio 2, per token 0.5
REJECTED = answers((-9.0, -8.0, 2))  # ratio -1, per token -0.5


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_dpo_by_hand() -> None:
    # 0.1 · (2 - (-1)) = 0.3
    assert dpo(CHOSEN, REJECTED, beta=0.1).item() == pytest.approx(-math.log(sigmoid(0.3)))
    same = answers((-3.0, -3.0, 1))
    assert dpo(same, same, beta=0.1).item() == pytest.approx(LN2)  # where every stage starts


def test_dpo_norm_by_hand() -> None:
    assert dpo_norm(CHOSEN, REJECTED, beta=5.0).item() == pytest.approx(-math.log(sigmoid(5.0)))  # 5 · (0.5 + 0.5)


def test_ipo_by_hand() -> None:
    # the margin per token is 1, the target 1 / (2 · 0.25) = 2
    assert ipo(CHOSEN, REJECTED, beta=0.25).item() == pytest.approx(1.0)
    assert ipo(CHOSEN, REJECTED, beta=0.5).item() == pytest.approx(0.0)  # reached, and not to be passed


def test_cdpo_by_hand_and_its_finite_margin() -> None:
    by_hand = -0.8 * math.log(sigmoid(0.3)) - 0.2 * math.log(sigmoid(-0.3))
    assert cdpo(CHOSEN, REJECTED, beta=0.1, label_smoothing=0.2).item() == pytest.approx(by_hand)
    best = answers((math.log(0.8 / 0.2) / 0.1, 0.0, 1), gradient=True)
    cdpo(best, answers((0.0, 0.0, 1)), beta=0.1, label_smoothing=0.2).sum().backward()
    assert best.logprobs.grad is not None and best.logprobs.grad.item() == pytest.approx(0.0, abs=1e-12)


def test_robust_by_hand_and_unbiased_under_flips() -> None:
    one = robust(CHOSEN, REJECTED, beta=0.1, label_smoothing=0.2)
    by_hand = (-0.8 * math.log(sigmoid(0.3)) + 0.2 * math.log(sigmoid(-0.3))) / 0.6
    assert one.item() == pytest.approx(by_hand)
    flipped = robust(REJECTED, CHOSEN, beta=0.1, label_smoothing=0.2)
    assert (0.8 * one + 0.2 * flipped).item() == pytest.approx(dpo(CHOSEN, REJECTED, beta=0.1).item())


def test_simpo_by_hand() -> None:
    # per token -2.5 and -4.5: 2 · 2 - 1 = 3
    assert simpo(CHOSEN, REJECTED, beta=2.0, gamma=1.0).item() == pytest.approx(-math.log(sigmoid(3.0)))


def test_orpo_by_hand() -> None:
    # per token p = e^-2.5 and e^-4.5; the odds' ratio is what the sigmoid sees
    odds = [p / (1 - p) for p in (math.exp(-2.5), math.exp(-4.5))]
    ratio = odds[0] / odds[1]
    assert orpo(CHOSEN, REJECTED, beta=0.1).item() == pytest.approx(-0.1 * math.log(ratio / (1 + ratio)))
    assert log_odds(torch.tensor([-1e-12, 0.0, -60.0])).isfinite().all()


def test_kto_by_hand() -> None:
    both = answers((-10.0, -12.0, 4), (-9.0, -8.0, 2))
    good, z = torch.tensor([1.0, 0.0]), torch.tensor(0.5)
    found = kto(both, good, 1 - good, z, beta=0.1, desirable_weight=1.0, undesirable_weight=1.5)
    assert found.tolist() == pytest.approx([1 - sigmoid(0.1 * 1.5), 1.5 * (1 - sigmoid(0.1 * 1.5))])
    at_start = kto(answers((-3.0, -3.0, 1)), good[:1], 1 - good[:1], z * 0, beta=0.1, desirable_weight=1, undesirable_weight=1)
    assert at_start.item() == pytest.approx(0.5)


def test_the_mismatched_kl_is_a_mean_at_least_0_without_a_gradient() -> None:
    found = answers((-4.0, -6.0, 1), (-5.0, -4.0, 1), gradient=True)
    z = mismatched_kl(found)
    assert z.item() == pytest.approx(0.5) and not z.requires_grad
    assert mismatched_kl(answers((-5.0, -4.0, 1))).item() == 0


def test_nll_by_hand() -> None:
    assert nll(CHOSEN).item() == pytest.approx(2.5)


@pytest.mark.parametrize("name", PAIRED)
def test_the_gradient_raises_the_chosen_and_lowers_the_rejected(name: str) -> None:
    chosen, rejected = answers((-10.0, -10.2, 4), gradient=True), answers((-9.0, -9.3, 3), gradient=True)
    LOSSES[name].loss(chosen, rejected, **LOSSES[name].settings).sum().backward()
    assert chosen.logprobs.grad is not None and chosen.logprobs.grad.item() < 0
    assert rejected.logprobs.grad is not None and rejected.logprobs.grad.item() > 0


def test_the_gradient_of_kto() -> None:
    both, good = answers((-3.0, -3.0, 1), (-3.0, -3.0, 1), gradient=True), torch.tensor([1.0, 0.0])
    kto(both, good, 1 - good, torch.tensor(0.0), **LOSSES["kto"].settings).sum().backward()
    assert both.logprobs.grad is not None and both.logprobs.grad[0] < 0 < both.logprobs.grad[1]
    # β σ(0) σ(-0) at the start
    assert both.logprobs.grad[1].item() == pytest.approx(0.1 / 4)


@pytest.mark.parametrize("name", PAIRED)
def test_soft_labels(name: str) -> None:
    method = LOSSES[name]

    def value(probability: float) -> Tensor:
        return expected(method.loss, CHOSEN, REJECTED, torch.tensor([probability], dtype=torch.float64), **method.settings)

    forward = method.loss(CHOSEN, REJECTED, **method.settings)
    back = method.loss(REJECTED, CHOSEN, **method.settings)
    assert torch.equal(value(1.0), forward) and torch.equal(value(0.0), back)
    assert value(0.7).item() == pytest.approx(0.7 * forward.item() + 0.3 * back.item())


def test_a_soft_label_of_dpo_is_a_cross_entropy() -> None:
    """Its best margin is the one whose sigmoid is the label."""
    chosen, rejected = answers((math.log(0.75 / 0.25) / 0.1, 0.0, 1), gradient=True), answers((0.0, 0.0, 1))
    expected(dpo, chosen, rejected, torch.tensor([0.75], dtype=torch.float64), beta=0.1).sum().backward()
    assert chosen.logprobs.grad is not None and chosen.logprobs.grad.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_only_methods_with_a_reference_look_at_it(name: str) -> None:
    method, good = LOSSES[name], torch.tensor([1.0])

    def value(reference: float) -> float:
        chosen, rejected = answers((-10.0, reference, 4)), answers((-9.0, -8.0, 2))
        if method.paired:
            return float(method.loss(chosen, rejected, **method.settings))
        return float(method.loss(chosen, good, 1 - good, torch.tensor(0.0), **method.settings))

    assert (value(-12.0) != value(-11.0)) == method.reference


@pytest.mark.parametrize("name", LOSSES)
def test_implicit_rewards(name: str) -> None:
    method = LOSSES[name]
    found = answers((-10.0, -12.0 if method.reference else 0.0, 4), gradient=True)
    reward = method.rewards(found, 0.5)
    value = (2.0 if method.reference else -10.0) / (4 if method.per_token else 1)
    assert reward.item() == pytest.approx(0.5 * value) and not reward.requires_grad


def test_choosing_answers() -> None:
    both = answers((-1.0, -2.0, 3), (-4.0, -5.0, 6))
    assert both[torch.tensor([1, 0, 1])].lengths.tolist() == [6, 3, 6]
