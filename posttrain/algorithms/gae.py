"""Generalised advantage estimation by token.  Letters: L trained tokens of R rows one after the other, T tokens of the longest.

A_t = Σ_k (γλ)^k δ_{t+k} with δ_t = r_t + γ V(s_{t+1}) - V(s_t) (arXiv:1506.02438, equations 12 and 16); V(s_t) is the value
before token t is written. λ = 1 is the return minus the value, unbiased whatever the values; λ = 0 trusts them fully.
Assumes each row is an episode of its own, in order. Fails, by bias, where λ < 1 and the values are wrong: at a critic's
start they are, and early tokens of a long answer then hear little of its reward.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def gae(
    rewards_L: Tensor, values_L: Tensor, lengths: Sequence[int], *, gamma: float, lam: float, after_R: Tensor | None = None
) -> Tensor:
    """Advantages (L). `after_R` is the value of the state after each row's last token: 0 where the episode ended there, which
    is also what None means; the critic's own value where it was only cut off."""
    count = len(lengths)
    after = torch.zeros(count, 1, dtype=values_L.dtype, device=values_L.device) if after_R is None else after_R[:, None]
    if not count or not max(lengths):
        return torch.zeros_like(values_L)
    rewards_RT = pad_sequence(list(rewards_L.split(list(lengths))), batch_first=True)
    values = list(values_L.split(list(lengths)))
    following = pad_sequence([torch.cat([v[1:], a]) if len(v) else v for v, a in zip(values, after, strict=True)], batch_first=True)
    delta_RT = rewards_RT + gamma * following - pad_sequence(values, batch_first=True)  # 0 beyond the end of a row
    running = torch.zeros_like(delta_RT[:, 0])
    for t in reversed(range(delta_RT.shape[1])):
        running = delta_RT[:, t] + gamma * lam * running
        delta_RT[:, t] = running
    return torch.cat([row[:length] for row, length in zip(delta_RT, lengths, strict=True)])
