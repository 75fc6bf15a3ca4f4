"""The critic's loss, one value per token, and how much of the returns it explains.  Letters: L trained tokens.

`values` are the critic's now and carry the gradient; `old` are its values at the start of the round; `returns` are what the
tokens earned from there on: advantage + old value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ValueLoss:
    """loss_L to be weighed and summed; clipped_L says where the critic's move left its range, so that no gradient is left."""

    loss_L: Tensor
    clipped_L: Tensor


def value_loss(values_L: Tensor, old_L: Tensor, returns_L: Tensor, clip: float | None) -> ValueLoss:
    """½ max((V - R)², (clip(V, V_old ± clip) - R)²): the pessimistic square of OpenAI's PPO2 and of the code for
    arXiv:1909.08593, which InstructGPT follows; not in the PPO paper. None takes the plain square.

    `clip` is in units of the reward: chosen for rewards of about 1, it throttles a critic of rewards of about 100.
    """
    plain = (values_L - returns_L).square()
    if clip is None:
        return ValueLoss(plain / 2, torch.zeros_like(plain, dtype=torch.bool))
    near = torch.maximum(torch.minimum(values_L, old_L + clip), old_L - clip)
    held = (near - returns_L).square()
    return ValueLoss(torch.maximum(plain, held) / 2, held > plain)


def explained_variance(values_L: Tensor, returns_L: Tensor) -> float | None:
    """1 - Var(R - V) / Var(R): 1 is a perfect critic, 0 one that knows no more than the mean, below 0 a harmful one. Give it
    the returns of λ = 1, since those of a smaller λ are partly the values themselves. None where all returns are equal."""
    spread = returns_L.double().var(unbiased=False)
    return float(1 - (returns_L.double() - values_L.double()).var(unbiased=False) / spread) if spread > 0 else None
