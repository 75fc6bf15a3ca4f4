"""Estimates of KL(policy‖reference) from the policy's own samples (joschu.net/blog/kl-approx.html), by token.

With δ = log policy - log reference: k1 = δ is unbiased and may be negative; k2 = δ²/2; k3 = exp(-δ) - 1 + δ is unbiased and
never negative. As a *loss*, k2 has exactly the gradient of the reverse KL on-policy, and so has k1 subtracted from the
reward; k3 as a loss follows the forward KL instead (checked by enumeration in tests/algorithms/test_kl.py).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def k1(logprobs_L: Tensor, reference_L: Tensor) -> Tensor:
    return logprobs_L - reference_L


def k2(logprobs_L: Tensor, reference_L: Tensor) -> Tensor:
    return (logprobs_L - reference_L).square() / 2


def k3(logprobs_L: Tensor, reference_L: Tensor) -> Tensor:
    difference = reference_L - logprobs_L
    return difference.exp() - 1 - difference


KL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k2_loss": k2, "k3_loss": k3}


def adapt(coefficient: float, observed: float, target: float, *, horizon: float = 10.0, limit: float = 0.2) -> float:
    """Move the coefficient towards holding the KL at `target` (arXiv:1909.08593, section 2.2): a proportional controller
    whose relative error is limited to ±`limit`, and which would take `horizon` rounds to close a full error."""
    error = max(-limit, min(limit, observed / target - 1))
    return coefficient * (1 + error / (limit * horizon))
