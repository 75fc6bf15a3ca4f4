"""Distances between student and teacher by hand, and the fused head's gradients against plain autograd in fp64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from posttrain.algorithms import distillation
from posttrain.algorithms.distillation import (
    TileLoss,
    distilled,
    divergence,
    forward_kl,
    jensen_shannon,
    of_the_sample,
    over_likeliest,
    over_vocabulary,
    reverse_kl,
    tile_loss,
)

STUDENT = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
TEACHER = torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64).log()
LOG2 = math.log(2)


def test_divergences_by_hand() -> None:
    assert reverse_kl(STUDENT, TEACHER)[0].item() == pytest.approx(0.25 * LOG2)  # 1/2 log 2 - 1/4 log 2
    assert forward_kl(STUDENT, TEACHER)[0].item() == pytest.approx(0.25 * LOG2)
    # the mixture at 1/2 is (3/8, 3/8, 1/4)
    by_hand = 0.5 * (0.25 * math.log(2 / 3) + 0.5 * math.log(4 / 3)) * 2
    assert jensen_shannon(STUDENT, TEACHER, beta=0.5)[0].item() == pytest.approx(by_hand)


def test_the_ends_of_jensen_shannon_are_the_two_kl() -> None:
    student, teacher = (torch.randn(4, 9, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    small = 1e-6
    assert torch.allclose(jensen_shannon(student, teacher, beta=small)[0] / small, forward_kl(student, teacher)[0], rtol=1e-4)
    assert torch.allclose(jensen_shannon(student, teacher, beta=1 - small)[0] / small, reverse_kl(student, teacher)[0], rtol=1e-4)


def test_the_rest_is_one_outcome_by_hand() -> None:
    """Top 1 of the teacher is its second token: student (1/4, rest 3/4), teacher (1/2, rest 1/2)."""
    value, _ = over_likeliest(STUDENT, TEACHER, torch.tensor([0]), measure=reverse_kl, count=1)
    assert value.item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))


def test_merging_outcomes_never_raises_a_divergence_and_naming_all_but_one_is_exact() -> None:
    student, teacher = (3 * torch.randn(16, 9, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    none = torch.zeros(16, dtype=torch.long)
    for name in ("reverse_kl", "forward_kl", "jsd"):
        measure = divergence(name, 0.3)
        whole, gradient = over_vocabulary(student, teacher, none, measure=measure)
        for count in (1, 3, 6):
            assert (over_likeliest(student, teacher, none, measure=measure, count=count)[0] <= whole + 1e-12).all()
        value, same = over_likeliest(student, teacher, none, measure=measure, count=8)
        assert torch.allclose(value, whole) and torch.allclose(same, gradient)


def test_a_sure_student_and_a_teacher_that_excludes_its_token_stay_finite() -> None:
    student = torch.tensor([[0.0, -200.0, -200.0, -200.0]]).log_softmax(-1)
    teacher = torch.tensor([[-200.0, 0.0, -1.0, -200.0]]).log_softmax(-1)
    for over in ("vocabulary", "top_k", "sampled"):
        for name in ("reverse_kl", "forward_kl", "jsd"):
            value, gradient = tile_loss(over, divergence(name, 0.5), 2)(student, teacher, torch.tensor([0]))
            assert value.isfinite().all() and gradient.isfinite().all(), (over, name)


def test_the_score_function_has_the_exact_gradient_on_average() -> None:
    """Sum over all tokens that could have been written, each as likely as the student writes it: no sampling noise."""
    student, teacher = (torch.randn(1, 7, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    every = torch.arange(7)
    value, gradient = of_the_sample(student.expand(7, 7), teacher.expand(7, 7), every)
    share = student.exp()[0]
    exact_value, exact = over_vocabulary(student, teacher, every[:1], measure=reverse_kl)
    assert (share * value).sum().item() == pytest.approx(exact_value.item())
    assert torch.allclose((share[:, None] * gradient).sum(0), exact[0])


@pytest.mark.parametrize("over", ["vocabulary", "top_k", "sampled"])
@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jsd"])
def test_the_gradient_moves_the_student_towards_the_teacher(over: str, name: str) -> None:
    """The token the teacher prefers gets a negative gradient on its logit, the one the student overrates a positive one."""
    _, gradient = tile_loss(over, divergence(name, 0.5), 2)(STUDENT, TEACHER, torch.tensor([0]))
    assert gradient[0, 0] > 0 > gradient[0, 1]
    assert gradient.sum().item() == pytest.approx(0, abs=1e-12)


def models(count: int, *, vocabulary: int = 11) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    target = torch.randint(0, vocabulary, (count,), generator=generator)
    return random(count, 5), random(vocabulary, 5), random(count, 3), random(vocabulary, 3), target


def plainly(loss: TileLoss, hidden: Tensor, weight: Tensor, other: Tensor, head: Tensor, target: Tensor, heat: float) -> Tensor:
    """The same values by operations that autograd knows: the tile's value, with the sample's as the score function it is."""
    student, teacher = (hidden @ weight.T / heat).log_softmax(-1), (other @ head.T / heat).log_softmax(-1)
    if loss is of_the_sample:
        chosen = student.gather(1, target[:, None])[:, 0]
        cost = (chosen - teacher.gather(1, target[:, None])[:, 0]).detach()
        return cost * (chosen - chosen.detach()).exp()
    return loss(student, teacher, target)[0]


NAMES = ("reverse_kl", "forward_kl", "jsd")
LOSSES = {
    **{name: tile_loss("vocabulary", divergence(name, 0.3), 0) for name in NAMES},
    **{f"top_{name}": tile_loss("top_k", divergence(name, 0.3), 4) for name in NAMES},
    "sampled": of_the_sample,
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("heat", [1.0, 0.7])
def test_the_fused_head_equals_plain_autograd(name: str, heat: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "TILE", 3)
    monkeypatch.setattr(distillation, "CHUNK", 8)
    hidden, weight, other, head, target = models(19)  # three chunks, the last of them and its last tile not full
    hidden.requires_grad_(True)
    weight.requires_grad_(True)
    seed = torch.linspace(-1, 1, 19, dtype=torch.float64)
    ours = distilled(hidden, weight, other, head, target, LOSSES[name], heat)
    theirs = plainly(LOSSES[name], hidden, weight, other, head, target, heat)
    assert torch.allclose(ours.value_L, theirs, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(ours.value_L, (hidden, weight), seed),
        torch.autograd.grad(theirs, (hidden, weight), seed),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_statistics_and_vocabularies_of_two_sizes() -> None:
    hidden, weight, other, head, target = models(6)
    found = distilled(hidden, weight, other, torch.cat([head, head]), target, LOSSES["jsd"], 1.0)
    student, teacher = (hidden @ weight.T).log_softmax(-1), (other @ head.T).log_softmax(-1)
    assert torch.allclose(found.logprobs_L, student[torch.arange(6), target])
    assert torch.allclose(found.entropy_L, torch.distributions.Categorical(logits=student).entropy())
    assert torch.allclose(found.reverse_kl_L, reverse_kl(student, teacher)[0])
    assert found.agreement_L.tolist() == (student.argmax(-1) == teacher.argmax(-1)).double().tolist()


def test_equal_models_have_no_distance_and_no_gradient() -> None:
    hidden, weight, *_, target = models(6)
    hidden.requires_grad_(True)
    for loss in LOSSES.values():
        found = distilled(hidden, weight, hidden.detach(), weight, target, loss, 1.0)
        (gradient,) = torch.autograd.grad(found.value_L.sum(), hidden)
        assert found.value_L.abs().max() < 1e-12 and gradient.abs().max() < 1e-12
        assert found.agreement_L.min() == 1


class Largest(TorchDispatchMode):
    """Remembers the largest full-precision tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, Tensor) and tensor.dtype in (torch.float32, torch.float64):
                self.numbers = max(self.numbers, tensor.numel())
        return found


@pytest.mark.parametrize("name", LOSSES)
def test_in_low_precision_the_gradient_holds_and_no_more_than_a_tile_is_ever_in_fp32(name: str) -> None:
    hidden, weight, other, head, target = models(300, vocabulary=40)
    exact = hidden.clone().bfloat16().double().requires_grad_(True)
    rounded = [each.bfloat16() for each in (weight, other, head)]
    (wanted,) = torch.autograd.grad(plainly(LOSSES[name], exact, *(r.double() for r in rounded), target, 1.0).sum(), exact)
    low = hidden.bfloat16().requires_grad_(True)
    with Largest() as largest:
        value = distilled(low, *rounded, target, LOSSES[name], 1.0).value_L
    assert largest.numbers <= distillation.TILE * 40
    (got,) = torch.autograd.grad(value.sum(), low)
    assert (got.double() - wanted).norm() < 0.04 * wanted.norm()  # bf16 also moves who is among the likeliest
