"""Shaping of rewards before advantages are taken.  Letters: L trained tokens of R rows one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def overlong_penalty(length: int, longest: int, buffer: int) -> float:
    """DAPO's soft overlong punishment (arXiv:2503.14476, equation 13): 0 up to longest - buffer tokens, falling linearly to
    -1 at `longest`."""
    return -min(1.0, max(0, length - (longest - buffer)) / buffer)


def token_rewards(scores_R: Tensor, kl_L: Tensor, lengths: Sequence[int], coefficient: float) -> Tensor:
    """A row's score at its last token, and at every token -coefficient · log(policy / reference) (arXiv:1909.08593, equation
    2; InstructGPT, arXiv:2203.02155, section 3.5). Every row has at least one token."""
    last_R = torch.tensor(lengths, device=kl_L.device).cumsum(0) - 1
    return (-coefficient * kl_L).index_add(0, last_R, scores_R.to(kl_L))
