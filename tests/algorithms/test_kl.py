"""The gradients of the KL forms, by enumerating a small softmax policy."""

import pytest
import torch

from posttrain.algorithms.kl import adapt, k1, k2, k3


def gradients() -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(0)

    def gradient(scalar: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(scalar, logits, retain_graph=True)[0]

    logp = logits.log_softmax(0)
    p = logp.exp()
    reverse = gradient((p * (logp - reference)).sum())
    forward = gradient((reference.exp() * (reference - logp)).sum())
    fixed = p.detach()
    forms = {
        "k1_reward": gradient((fixed * k1(logp, reference).detach() * logp).sum()),
        "k2_loss": gradient((fixed * k2(logp, reference)).sum()),
        "k3_loss": gradient((fixed * k3(logp, reference)).sum()),
    }
    return reverse, forward, forms


def test_k1_in_the_reward_and_k2_as_loss_have_the_exact_gradient() -> None:
    reverse, _, forms = gradients()
    assert torch.allclose(forms["k1_reward"], reverse)
    assert torch.allclose(forms["k2_loss"], reverse)


def test_k3_as_loss_follows_the_forward_kl() -> None:
    reverse, forward, forms = gradients()
    assert torch.allclose(forms["k3_loss"], forward)
    assert not torch.allclose(forms["k3_loss"], reverse, atol=1e-3)


def test_hand_values() -> None:
    a, b = torch.tensor([0.0]), torch.tensor([-1.0])
    assert k1(a, b).item() == 1
    assert k2(a, b).item() == 0.5
    assert k3(a, b).item() == pytest.approx(2.718281828**-1)


def test_adaptive_coefficient_moves_towards_the_target() -> None:
    assert adapt(0.1, observed=0.2, target=0.1) == pytest.approx(0.11)  # error +1 limited to 0.2, over 2 rounds of limit
    assert adapt(0.1, observed=0.0, target=0.1) == pytest.approx(0.09)
    assert adapt(0.1, observed=0.1, target=0.1) == 0.1
