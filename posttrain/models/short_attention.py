"""Attention over short blocks of keys as plain matrix products, and its backward.

Up to some hundred keys a few large products are faster on a CPU than its flash kernel, the backward most of all. The query
heads of a key head are stacked as rows of one product. In bf16 models the products that lead to small differences of large
numbers (the scores, and the gradient of the probabilities) give fp32; their inputs are bf16 numbers, so asking for bf16
products loses nothing. The probabilities are kept for the backward, which bounds the length: T queries of a head keep T·S
numbers. Letters: R blocks, H query heads, K key heads, G = H/K, B = R·K, T queries, S keys, D head size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


def stacked(x_RHTD: Tensor, kv_heads: int) -> Tensor:
    """(R, H, T, D) -> (B, G·T, D): the query heads of a key head one above the other."""
    rows, heads, length, size = x_RHTD.shape
    return x_RHTD.reshape(rows * kv_heads, heads // kv_heads * length, size)


def attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, causal: bool, merge: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """q (B, G·T, D), k and v (B, S, D) -> output (B, G·T, D), probabilities (B, G·T, S), and, where it will be merged with
    another block's, the log-sum-exp of each query's scores (B, G·T). `causal`: T = S and query i sees keys up to i."""
    with full_results(q.dtype):
        if causal:
            hidden = torch.full((k.shape[1], k.shape[1]), -torch.inf, device=q.device).triu_(1)
            scores = torch.baddbmm(hidden.repeat(q.shape[1] // len(hidden), 1), q.float(), k.float().mT, alpha=scale)
        else:
            scores = torch.baddbmm(q.new_zeros((), dtype=torch.float32), q.float(), k.float().mT, beta=0, alpha=scale)
    full = torch.softmax(scores, -1)
    lse = scores.amax(-1) - full.amax(-1).log_() if merge else None
    p = full.to(q.dtype)
    return torch.bmm(p, v), p, lse


def attend_backward(
    g: Tensor, delta: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v for the output's gradient g (B, G·T, D); `delta` (B, G·T) is Σ g · output over D. Where blocks
    were merged, g carries this block's share of the sum and the output is the merged one (arXiv:2307.08691, section 3.1)."""
    with full_results(q.dtype):
        ds = torch.bmm(g.float(), v.float().mT)
    ds = ds.sub_(delta[..., None]).mul_(p.float()).to(q.dtype)
    return torch.bmm(ds, k).mul_(scale), torch.bmm(ds.mT, q).mul_(scale), torch.bmm(p.mT, g)


@contextlib.contextmanager
def full_results(dtype: torch.dtype) -> Iterator[None]:
    """Within it, fp32 products of numbers that came from `dtype` run at that type's speed, where the CPU has it."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    if dtype is torch.bfloat16:
        matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
