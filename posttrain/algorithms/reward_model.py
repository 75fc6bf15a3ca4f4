"""Losses of reward models on pairs of answers, one value per pair.  Letters: B prompts, P pairs of all of them.

Bradley-Terry (1952): P(better ≻ worse) = σ(r_better - r_worse). With z = r_better - r_worse - margin and the probability q
that the label is right, the loss is -q·log σ(z) - (1-q)·log σ(-z), smallest at z = logit q. So a pair labelled surely
pushes its rewards apart for ever, a soft one to a distance, and q = 1/2 together. Hard labels without a margin give
InstructGPT's term (arXiv:2203.02155, equation 1), a margin Llama 2's (arXiv:2307.09288, equation 2).

Only differences count, so a constant may drift in all rewards: `centring` holds the sum of a pair near 0.
Fails where preferences are not transitive, and where pairs of one prompt are drawn apart: K answers make K(K-1)/2 pairs that
share them, and an epoch over pairs as if they were independent overfits (2203.02155, section 3.5). See `pair_weights`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(better_P: Tensor, worse_P: Tensor, probability_P: Tensor | float = 1.0, margin_P: Tensor | float = 0.0) -> Tensor:
    """Loss of each pair, in nats. `probability_P` says how surely `better` is the better one, `margin_P` by how much its
    reward is asked to exceed the other's."""
    distance = better_P - worse_P - margin_P
    return -probability_P * logsigmoid(distance) - (1 - probability_P) * logsigmoid(-distance)


def centring(better_P: Tensor, worse_P: Tensor) -> Tensor:
    """(r_better + r_worse)² (arXiv:2312.09244): to be added with a small coefficient, such as 0.01."""
    return (better_P + worse_P).square()


def smoothed(probability: float, smoothing: float) -> float:
    """The label's probability if the labeller is taken to err in a share `smoothing` of all pairs."""
    return probability * (1 - smoothing) + (1 - probability) * smoothing


def pair_weights(pairs_B: Sequence[int]) -> list[float]:
    """What each pair of each prompt counts: a prompt's pairs are one element of the batch and share its weight 1/B (arXiv:
    2203.02155, equation 1). Prompts without pairs count nothing and are not counted."""
    prompts = sum(1 for pairs in pairs_B if pairs)
    return [1 / (prompts * pairs) if pairs else 0.0 for pairs in pairs_B]
