"""Policy losses, one value per token.  Letters: L trained tokens, in R rows.

`logprobs` are the policy's and carry the gradient, `old` are the policy's at the start of the round, `advantages` are the
row's advantage at each of its tokens. Each loss is written so that its gradient at ratio 1 is -advantage · ∇log π.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PolicyLoss:
    """loss_L to be weighed and summed; low_L and high_L say where the ratio was clipped from below and above."""

    loss_L: Tensor
    low_L: Tensor
    high_L: Tensor


def clipped(logprobs_L: Tensor, old_L: Tensor, advantages_L: Tensor, rows_L: Tensor, low: float, high: float) -> PolicyLoss:
    """PPO's surrogate by token (arXiv:1707.06347, equation 7), with DAPO's separate upper range (arXiv:2503.14476, section
    3.1). A token whose ratio has left the range on the side its advantage pushes to has no gradient."""
    ratio = (logprobs_L - old_L).exp()
    return _clip(ratio, advantages_L, low, high)


def sequence_clipped(
    logprobs_L: Tensor, old_L: Tensor, advantages_L: Tensor, rows_L: Tensor, low: float, high: float
) -> PolicyLoss:
    """GSPO (arXiv:2507.18071, equation 7): the ratio of a whole row, as the geometric mean over its tokens, clipped once.
    Ranges are about a hundred times smaller than by token. Needs rows unsplit; each token carries its row's value."""
    count = int(rows_L.max()) + 1 if len(rows_L) else 0
    difference = torch.zeros(count, dtype=logprobs_L.dtype, device=logprobs_L.device).index_add(0, rows_L, logprobs_L - old_L)
    length = torch.zeros_like(difference).index_add(0, rows_L, torch.ones_like(logprobs_L))
    ratio = (difference / length.clamp(min=1)).exp()[rows_L]
    return _clip(ratio, advantages_L, low, high)


def weighted_likelihood(
    logprobs_L: Tensor, old_L: Tensor, advantages_L: Tensor, rows_L: Tensor, low: float, high: float
) -> PolicyLoss:
    """CISPO (arXiv:2506.13585, equation 4): REINFORCE with the clipped ratio as a constant weight, so that every token
    keeps a gradient, however far its ratio went."""
    ratio = (logprobs_L - old_L).exp().detach()
    weight = ratio.clamp(1 - low, 1 + high)
    return PolicyLoss(-weight * advantages_L * logprobs_L, ratio < 1 - low, ratio > 1 + high)


def _clip(ratio_L: Tensor, advantages_L: Tensor, low: float, high: float) -> PolicyLoss:
    loss = -torch.minimum(ratio_L * advantages_L, ratio_L.clamp(1 - low, 1 + high) * advantages_L)
    return PolicyLoss(loss, (ratio_L < 1 - low) & (advantages_L < 0), (ratio_L > 1 + high) & (advantages_L > 0))


PolicyLossFunction = Callable[[Tensor, Tensor, Tensor, Tensor, float, float], PolicyLoss]

POLICY_LOSSES: dict[str, PolicyLossFunction] = {
    "clipped": clipped,
    "sequence_clipped": sequence_clipped,
    "weighted_likelihood": weighted_likelihood,
}


def truncated_importance(trainer_L: Tensor, sampler_L: Tensor, cap: float) -> Tensor:
    """min(π_trainer / π_sampler, cap) by token, detached: corrects for a sampler whose arithmetic differs from the
    trainer's (truncated importance sampling). With cap 1 it only ever weakens a token."""
    return (trainer_L - sampler_L).detach().exp().clamp(max=cap)
