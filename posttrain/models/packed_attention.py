"""Causal attention over a packed row whose tokens may share prefixes, as a `plan` for the registered attention.

A run of tokens of equal `reach` is one causal block, plus one full block for the later tokens that still see it. Blocks
merge exactly by log-sum-exp (lse). Autograd through that merge is silently wrong, since torch marks lse as not
differentiable; but with the merged output and the merged lse, each block's flash backward alone is exact. On devices
without the CPU kernel the same mask is given to scaled_dot_product_attention whole.
Letters: H query heads, K key heads, N tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

SHORT = 256
"""Blocks up to this many keys are computed in fp32, whose CPU kernel has the faster backward there; longer ones in bf16."""

Block = tuple[slice, slice, bool]


def blocks(reach_N: Sequence[int]) -> list[Block]:
    """(query slice, key slice, causal): every run's causal block first, then the blocks that join later tokens to it."""
    count = len(reach_N)
    cuts = [0, *(i for i in range(1, count) if reach_N[i] != reach_N[i - 1]), count]
    runs = [slice(a, b) for a, b in pairwise(cuts) if b > a]
    later = [(slice(run.stop, reach_N[run.start]), run, False) for run in runs if reach_N[run.start] > run.stop]
    return [(run, run, True) for run in runs] + later


def visible(reach_N: Sequence[int], device: torch.device) -> Tensor:
    """The same relation as a boolean (N, N) mask: row i may see column j."""
    reach = torch.tensor(reach_N, device=device)
    i = torch.arange(len(reach_N), device=device)
    return (i[None, :] <= i[:, None]) & (i[:, None] < reach[None, :])


class Packed:
    """The plan of one training or scoring forward."""

    def __init__(self, reach_N: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        if self.device.type == "cpu":
            self.blocks = blocks(reach_N)
        else:
            self.mask = visible(reach_N, self.device)

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scaling: float) -> Tensor:
        if self.device.type == "cpu":
            out: Tensor = SharedAttention.apply(q_BHTD, k_BKTD, v_BKTD, self.blocks, scaling)  # type: ignore[no-untyped-call]
        else:
            out = F.scaled_dot_product_attention(q_BHTD, k_BKTD, v_BKTD, attn_mask=self.mask, scale=scaling, enable_gqa=True)
        return out.transpose(1, 2)


class SharedAttention(torch.autograd.Function):
    """q (1, H, N, D), k and v (1, K, N, D) -> (1, H, N, D)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: list[Block], scale: float) -> Tensor:
        work = torch.float32 if max((keys.stop - keys.start for _, keys, _ in plan), default=0) <= SHORT else q.dtype
        qw, kw, vw = (x.to(work) for x in (q, k, v))
        out = torch.empty_like(qw)
        lse = torch.empty(q.shape[:3], dtype=torch.float32)
        for rows, keys, causal in plan:
            o, block_lse = _flash(qw[:, :, rows], kw[:, :, keys], vw[:, :, keys], 0.0, causal, scale=scale)
            if not causal:
                seen = lse[:, :, rows]
                o = torch.lerp(out[:, :, rows], o, torch.sigmoid(block_lse - seen)[..., None].to(work))
                block_lse = torch.logaddexp(seen, block_lse)
            out[:, :, rows], lse[:, :, rows] = o, block_lse
        result = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, result, lse)
        ctx.plan, ctx.scale, ctx.work = plan, scale, work
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        qw, kw, vw, ow, dw = (x.to(ctx.work) for x in (q, k, v, out, grads[0]))
        dq, dk, dv = (torch.zeros(x.shape, dtype=torch.float32) for x in (q, k, v))
        for rows, keys, causal in ctx.plan:
            gq, gk, gv = _flash_backward(
                dw[:, :, rows],
                qw[:, :, rows],
                kw[:, :, keys],
                vw[:, :, keys],
                ow[:, :, rows],
                lse[:, :, rows],
                0.0,
                causal,
                scale=ctx.scale,
            )
            dq[:, :, rows] += gq
            dk[:, :, keys] += gk
            dv[:, :, keys] += gv
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None
