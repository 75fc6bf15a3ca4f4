"""Causal attention over a packed row whose tokens may share prefixes, as a `plan` for the registered attention.

Runs of few keys (runs.py) are plain products over the keys they see, gathered (short_attention.py). A long run is the CPU's
flash kernel, causal, and one full block for each stretch of tokens before it. Its blocks merge exactly by log-sum-exp (lse).
Autograd through that merge is silently wrong, since torch marks lse as not differentiable; but with the merged output and
the merged lse, each block's backward alone is exact. On a GPU the kernel is FlexAttention (cuda/flex.py); where that has none, and
on other devices, the mask of all pairs is given to scaled_dot_product_attention whole.
Letters: H query heads, K key heads, N tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from posttrain.models.cuda import flex
from posttrain.models.runs import batches, later, runs_of
from posttrain.models.short_attention import Bucket, Gathered, add_shared, attend_short, attend_short_backward, bucket

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

SHORT = 512
"""Runs that see up to this many keys are plain products; longer ones are flash attention."""

Block = tuple[slice, slice]
"""Query tokens, and the keys all of them see."""


@dataclass(frozen=True)
class Blocks:
    """All of a packed row's attention: short runs in batches; long runs, and the blocks that join them to what is before."""

    buckets: Sequence[Bucket]
    alone: Sequence[slice]
    later: Sequence[Block]
    _gathered: dict[tuple[int, int], Gathered] = field(default_factory=dict)

    def short(self, heads: int, kv_heads: int) -> Gathered | None:
        """The same for every layer, so made once."""
        if self.buckets and (heads, kv_heads) not in self._gathered:
            self._gathered[heads, kv_heads] = Gathered(self.buckets, heads, kv_heads)
        return self._gathered.get((heads, kv_heads))

    @property
    def shares(self) -> bool:
        return bool(self.later) or any(each.shared for each in self.buckets)


def blocks(reach_N: Sequence[int]) -> Blocks:
    runs = runs_of(reach_N)
    long = [run for run in runs if run.keys > SHORT]
    short = batches([run for run in runs if run.keys <= SHORT])
    return Blocks([bucket(batch) for batch in short], [run.own for run in long], later(long))


def visible(reach_N: Sequence[int], device: torch.device) -> Tensor:
    """The same relation as a boolean (N, N) mask: row i may see column j."""
    reach = torch.tensor(reach_N, device=device)
    i = torch.arange(len(reach_N), device=device)
    return (i[None, :] <= i[:, None]) & (i[:, None] < reach[None, :])


class Packed:
    """The plan of one training or scoring forward."""

    def __init__(self, reach_N: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.reach_N, self.device = reach_N, torch.device(device)
        if self.device.type == "cpu":
            self.blocks = blocks(reach_N)

    @cached_property
    def mask(self) -> Tensor:
        return visible(self.reach_N, self.device)

    @cached_property
    def block_mask(self) -> BlockMask:
        return flex.block_mask(self.reach_N, self.device)

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scaling: float) -> Tensor:
        if self.device.type == "cpu":
            out: Tensor = SharedAttention.apply(q_BHTD, k_BKTD, v_BKTD, self.blocks, scaling)  # type: ignore[no-untyped-call]
        elif flex.possible(q_BHTD):
            out = flex.attend(q_BHTD, k_BKTD, v_BKTD, self.block_mask, scaling)
        else:
            out = F.scaled_dot_product_attention(q_BHTD, k_BKTD, v_BKTD, attn_mask=self.mask, scale=scaling, enable_gqa=True)
        return out.transpose(1, 2)


class SharedAttention(torch.autograd.Function):
    """q (1, H, N, D), k and v (1, K, N, D) -> (1, H, N, D), in memory (N, H, D)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Blocks, scale: float) -> Tensor:
        q_NHD, k_NKD, v_NKD = (x[0].transpose(0, 1) for x in (q, k, v))
        short = plan.short(q.shape[1], k.shape[1])
        lse: Tensor | None = None
        if short is not None:
            out_NHD = attend_short(short, q_NHD, k_NKD, v_NKD, scale)
        if short is None or plan.alone:
            whole = q.new_empty(q_NHD.shape)
            if short is not None:
                whole.index_copy_(0, short.tokens, out_NHD)
            out_NHD = whole
            lse = attend_long(out_NHD.transpose(0, 1)[None], q, k, v, plan, scale)
        out = out_NHD.transpose(0, 1)[None]
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.plan, ctx.scale = plan, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        plan, g = ctx.plan, grads[0]
        short = plan.short(q.shape[1], k.shape[1])
        sums: list[Tensor] = []
        parts: tuple[Tensor, ...] = ()
        if short is not None:
            g_NHD, out_NHD, q_NHD, k_NKD, v_NKD = (x[0].transpose(0, 1) for x in (g, out, q, k, v))
            parts = attend_short_backward(short, g_NHD, out_NHD, q_NHD, k_NKD, v_NKD, ctx.scale)
            back = short.back_q, short.back_k, short.back_k
            sums = [
                part.index_select(0, rows).unflatten(0, (len(short.tokens), -1)) for part, rows in zip(parts, back, strict=True)
            ]
        if short is None or plan.alone:
            sums = [over_all(x, short, part) for x, part in zip((q, k, v), sums or (None,) * 3, strict=True)]
        if short is not None and plan.shares:
            sums[1:] = [add_shared(short, part, total.float()) for part, total in zip(parts[1:], sums[1:], strict=True)]
        found = [total.transpose(0, 1)[None] for total in sums]
        if lse is not None:
            attend_long_backward(found, g, q, k, v, out, lse, plan, ctx.scale)
        return *(total.to(q.dtype) for total in found), None, None


def over_all(x_BHND: Tensor, short: Gathered | None, values_nHD: Tensor | None) -> Tensor:
    """Gradients of the short runs' tokens in fp32 among zeros for the others, (N, H, D)."""
    total = torch.zeros(x_BHND[0].transpose(0, 1).shape, dtype=torch.float32)
    if short is not None and values_nHD is not None:
        total.index_copy_(0, short.tokens, values_nHD.float())
    return total


def attend_long(out: Tensor, q: Tensor, k: Tensor, v: Tensor, plan: Blocks, scale: float) -> Tensor:
    """Write the long runs' outputs into `out` (1, H, N, D); returns their lse (1, H, N)."""
    lse = torch.zeros(q.shape[:3], dtype=torch.float32)
    for run in plan.alone:
        out[:, :, run], lse[:, :, run] = _flash(q[:, :, run], k[:, :, run], v[:, :, run], 0.0, True, scale=scale)
    for rows, keys in plan.later:
        o, block_lse = _flash(q[:, :, rows], k[:, :, keys], v[:, :, keys], 0.0, False, scale=scale)
        seen = lse[:, :, rows]
        out[:, :, rows] = torch.lerp(out[:, :, rows], o, torch.sigmoid(block_lse - seen)[..., None].to(o.dtype))
        lse[:, :, rows] = torch.logaddexp(seen, block_lse)
    return lse


def attend_long_backward(
    sums: Sequence[Tensor], g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, plan: Blocks, scale: float
) -> None:
    """Add the long runs' gradients to the sums, fp32 and shaped as q, k and v."""
    causal = [(run, run, True) for run in plan.alone]
    for rows, keys, is_causal in [*causal, *((rows, keys, False) for rows, keys in plan.later)]:
        asked, seen = (slice(None), slice(None), rows), (slice(None), slice(None), keys)
        parts = _flash_backward(g[asked], q[asked], k[seen], v[seen], out[asked], lse[asked], 0.0, is_causal, scale=scale)
        for whole, part, where in zip(sums, parts, (asked, seen, seen), strict=True):
            whole[where] += part
