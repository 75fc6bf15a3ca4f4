"""Whitening over a whole round: numbers of mean 0 and spread 1, so that step sizes do not depend on the reward's scale.

As in the code for arXiv:1909.08593: (x - mean) / √(variance + 1e-8) with the population's variance, over all trained tokens
of the round at once. Whitening a micro-batch at a time would make the result depend on memory. Letters: L trained tokens.
Fails when nothing differs: noise is then blown up, though never beyond 10,000 times.
"""

from __future__ import annotations

from torch import Tensor

EPSILON = 1e-8


def whiten(values_L: Tensor, *, shift_mean: bool = True) -> Tensor:
    """With `shift_mean` False the mean stays: what InstructGPT does to rewards, whose sign has a meaning."""
    mean = values_L.mean()
    scaled = (values_L - mean) * (values_L.var(unbiased=False) + EPSILON).rsqrt()
    return scaled if shift_mean else scaled + mean
