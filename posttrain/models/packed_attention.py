"""Causal attention over a packed row whose tokens may share prefixes, as a `plan` for the registered attention.

A run of tokens of equal `reach` is one causal block, plus one full block for the later tokens that still see it. Blocks
merge exactly by log-sum-exp (lse). Autograd through that merge is silently wrong, since torch marks lse as not
differentiable; but with the merged output and the merged lse, each block's backward alone is exact. Blocks of few keys are
plain products (short_attention.py), the others the CPU's flash kernel. On other devices the same mask is given to
scaled_dot_product_attention whole.
Letters: H query heads, K key heads, N tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from posttrain.models.short_attention import attend, attend_backward, stacked

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

SHORT = 512
"""Blocks up to this many keys are plain products, which keep their probabilities; longer ones are flash attention."""

PADDED = 0.8
"""Runs are padded to one length where the longest of them is at most 1 / PADDED times the shortest."""

Block = tuple[slice, slice]
"""Query tokens, and the keys all of them see."""


def blocks(reach_N: Sequence[int]) -> Blocks:
    count = len(reach_N)
    cuts = [0, *(i for i in range(1, count) if reach_N[i] != reach_N[i - 1]), count]
    runs = [slice(a, b) for a, b in pairwise(cuts) if b > a]
    later = [(slice(run.stop, reach_N[run.start]), run) for run in runs if reach_N[run.start] > run.stop]
    return Blocks(*buckets(runs), later)


def visible(reach_N: Sequence[int], device: torch.device) -> Tensor:
    """The same relation as a boolean (N, N) mask: row i may see column j."""
    reach = torch.tensor(reach_N, device=device)
    i = torch.arange(len(reach_N), device=device)
    return (i[None, :] <= i[:, None]) & (i[:, None] < reach[None, :])


@dataclass(frozen=True)
class Bucket:
    """Causal runs of similar length as one padded batch: `where` (R, T) is the packed token at each place, a run's last one
    repeated behind its end, which causal attention never lets the others see; `real` are the places that are not padding."""

    where: Tensor
    real: Tensor

    @property
    def padding(self) -> Tensor:
        """(R, T)"""
        return torch.ones(self.where.numel(), dtype=torch.bool).index_fill_(0, self.real, False).view(self.where.shape)

    def rows(self, x_HND: Tensor) -> Tensor:
        """(H, N, ...) -> (R, H, T, ...)"""
        picked: Tensor = x_HND.index_select(1, self.where.flatten()).unflatten(1, self.where.shape)
        return picked.transpose(0, 1)

    def flat(self, x_RHTD: Tensor) -> tuple[Tensor, Tensor]:
        """(R, H, T, ...) -> the packed tokens n of all real places, and their values (H, n, ...)."""
        return self.where.flatten()[self.real], x_RHTD.transpose(0, 1).flatten(1, 2).index_select(1, self.real)


def buckets(runs: Sequence[slice]) -> tuple[list[Bucket], list[slice]]:
    """Short runs in batches of similar length, and the long ones."""
    together: list[list[slice]] = []
    alone: list[slice] = []
    for run in sorted(runs, key=lambda run: run.stop - run.start):
        length = run.stop - run.start
        if length > SHORT:
            alone.append(run)
        elif together and length * PADDED <= (first := together[-1][0]).stop - first.start:
            together[-1].append(run)
        else:
            together.append([run])
    return [bucket(runs) for runs in together], alone


def bucket(runs: Sequence[slice]) -> Bucket:
    longest = max(run.stop - run.start for run in runs)
    place = torch.arange(longest)
    starts, ends = (torch.tensor([getattr(run, side) for run in runs])[:, None] for side in ("start", "stop"))
    return Bucket(torch.minimum(starts + place, ends - 1), (starts + place < ends).flatten().nonzero()[:, 0])


@dataclass(frozen=True)
class Blocks:
    """All of a packed row's attention: short causal runs in batches, long ones, then the blocks that join later tokens to a run."""

    buckets: Sequence[Bucket]
    alone: Sequence[slice]
    later: Sequence[Block]


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
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Blocks, scale: float) -> Tensor:
        merge = bool(plan.later)
        out = torch.empty_like(q)
        lse = torch.zeros(q.shape[:3], dtype=torch.float32)
        kept = []
        for each in plan.buckets:
            o, p, block_lse = short(each.rows(q[0]), each.rows(k[0]), each.rows(v[0]), scale, causal=True, merge=merge)
            out[0].index_copy_(1, *each.flat(o))
            if block_lse is not None:
                lse[0].index_copy_(1, *each.flat(block_lse))
                kept.append(block_lse)
            kept.append(p)
        for run in plan.alone:
            out[:, :, run], lse[:, :, run] = _flash(q[:, :, run], k[:, :, run], v[:, :, run], 0.0, True, scale=scale)
        for rows, keys in plan.later:
            parts = q[:, :, rows], k[:, :, keys], v[:, :, keys]
            if is_short(keys):
                o, p, block_lse = short(*parts, scale, causal=False, merge=True)
                assert block_lse is not None
                kept += [block_lse, p]
            else:
                o, block_lse = _flash(*parts, 0.0, False, scale=scale)
            seen = lse[:, :, rows]
            out[:, :, rows] = torch.lerp(out[:, :, rows], o, torch.sigmoid(block_lse - seen)[..., None].to(o.dtype))
            lse[:, :, rows] = torch.logaddexp(seen, block_lse)
        ctx.save_for_backward(q, k, v, out, lse, *kept)
        ctx.plan, ctx.scale = plan, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, *kept = ctx.saved_tensors
        plan, scale, g = ctx.plan, ctx.scale, grads[0]
        given, saved = (q, k, v), iter(kept)
        sums = [torch.zeros(x.shape, dtype=torch.float32 if plan.later else x.dtype) for x in given]
        for each in plan.buckets:
            block_g = each.rows(g[0]).masked_fill(each.padding[:, None, :, None], 0)
            share = torch.exp(next(saved) - each.rows(lse[0])) if plan.later else None
            block = each.rows(q[0]), each.rows(k[0]), each.rows(v[0])
            parts = short_backward(block_g, each.rows(out[0]), share, *block, next(saved), scale)
            for whole, part in zip(sums, parts, strict=True):
                tokens, values = each.flat(part)
                whole[0].index_copy_(1, tokens, values.to(whole.dtype))  # the first to write there: every token is in one run
        for run in plan.alone:
            at = (slice(None), slice(None), run)
            parts = _flash_backward(g[at], q[at], k[at], v[at], out[at], lse[at], 0.0, True, scale=scale)
            for whole, part in zip(sums, parts, strict=True):
                whole[at] = part
        for rows, keys in plan.later:
            asked, seen = (slice(None), slice(None), rows), (slice(None), slice(None), keys)
            block = q[asked], k[seen], v[seen]
            if is_short(keys):
                share = torch.exp(next(saved) - lse[asked])
                parts = short_backward(g[asked], out[asked], share, *block, next(saved), scale)
            else:
                parts = _flash_backward(g[asked], *block, out[asked], lse[asked], 0.0, False, scale=scale)
            for whole, part, where in zip(sums, parts, (asked, seen, seen), strict=True):
                whole[where] += part
        return *(total.to(x.dtype) for total, x in zip(sums, given, strict=True)), None, None


def is_short(keys: slice) -> bool:
    return len(range(keys.start, keys.stop)) <= SHORT


def short(q: Tensor, k: Tensor, v: Tensor, scale: float, *, causal: bool, merge: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """q (R, H, T, D), k and v (R, K, S, D) -> output (R, H, T, D), what the backward needs of it, and lse (R, H, T) if asked."""
    kv = k.shape[1]
    o, p, lse = attend(stacked(q, kv), stacked(k, kv), stacked(v, kv), scale, causal=causal, merge=merge)
    return o.view(q.shape), p, None if lse is None else lse.view(q.shape[:3])


def short_backward(
    g: Tensor, out: Tensor, share: Tensor | None, q: Tensor, k: Tensor, v: Tensor, p: Tensor, scale: float
) -> tuple[Tensor, ...]:
    """Gradients of q, k and v. `share` (R, H, T) is how much of each query's attention this block has."""
    if share is not None:
        g = (g * share[..., None]).to(q.dtype)
    delta = (g.float() * out).sum(-1, keepdim=True)
    kv = k.shape[1]
    parts = attend_backward(stacked(g, kv), stacked(delta, kv)[..., 0], stacked(q, kv), stacked(k, kv), stacked(v, kv), p, scale)
    return tuple(part.view(x.shape) for part, x in zip(parts, (q, k, v), strict=True))
