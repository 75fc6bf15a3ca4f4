"""Causal attention over a packed row whose tokens may share prefixes, as a `plan` for the registered attention.

A run of tokens of equal `reach` is one causal block, plus one full block for the later tokens that still see it. Blocks
merge exactly by log-sum-exp (lse). Autograd through that merge is silently wrong, since torch marks lse as not
differentiable; but with the merged output and the merged lse, each block's flash backward alone is exact. On devices
without the CPU kernel the same mask is given to scaled_dot_product_attention whole.
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

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

SHORT = 256
"""Blocks up to this many keys are computed in fp32, whose CPU kernel has the faster backward there; longer ones in bf16."""

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
        """(H, N, ...) -> (R, H, T, ...) in fp32, whose kernel has the faster backward on short rows, in batches most of all."""
        picked: Tensor = x_HND.index_select(1, self.where.flatten()).unflatten(1, self.where.shape)
        return picked.transpose(0, 1).float().contiguous()

    def flat(self, x_RHTD: Tensor) -> tuple[Tensor, Tensor]:
        """(R, H, T, ...) -> the packed tokens n of all real places, and their values (H, n, ...)."""
        return self.where.flatten()[self.real], x_RHTD.transpose(0, 1).flatten(1, 2).index_select(1, self.real)


def buckets(runs: Sequence[slice]) -> tuple[list[Bucket], list[slice]]:
    """Runs that are worth a batch, by similar length, and those that are better on their own."""
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
    return [bucket(runs) for runs in together if len(runs) > 1], alone + [runs[0] for runs in together if len(runs) == 1]


def bucket(runs: Sequence[slice]) -> Bucket:
    longest = max(run.stop - run.start for run in runs)
    place = torch.arange(longest)
    starts, ends = (torch.tensor([getattr(run, side) for run in runs])[:, None] for side in ("start", "stop"))
    return Bucket(torch.minimum(starts + place, ends - 1), (starts + place < ends).flatten().nonzero()[:, 0])


@dataclass(frozen=True)
class Blocks:
    """All of a packed row's attention: causal runs in batches and alone, then the blocks that join later tokens to a run."""

    buckets: Sequence[Bucket]
    alone: Sequence[slice]
    later: Sequence[Block]

    @property
    def longest(self) -> int:
        """Most keys of one block."""
        runs = [run.stop - run.start for run in (*self.alone, *(keys for _, keys in self.later))]
        return max([*runs, *(bucket.where.shape[1] for bucket in self.buckets)], default=0)


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
        work = torch.float32 if plan.longest <= SHORT else q.dtype
        out = torch.empty(q.shape, dtype=work)
        lse = torch.empty(q.shape[:3], dtype=torch.float32)
        for each in plan.buckets:
            o, block_lse = _flash(*(each.rows(x[0]) for x in (q, k, v)), 0.0, True, scale=scale)
            for whole, part in ((out, o), (lse, block_lse)):
                tokens, values = each.flat(part)
                whole[0].index_copy_(1, tokens, values.to(whole.dtype))
        qw, kw, vw = (x.to(work) for x in (q, k, v))
        for run in plan.alone:
            out[:, :, run], lse[:, :, run] = _flash(qw[:, :, run], kw[:, :, run], vw[:, :, run], 0.0, True, scale=scale)
        for rows, keys in plan.later:
            o, block_lse = _flash(qw[:, :, rows], kw[:, :, keys], vw[:, :, keys], 0.0, False, scale=scale)
            seen = lse[:, :, rows]
            out[:, :, rows] = torch.lerp(out[:, :, rows], o, torch.sigmoid(block_lse - seen)[..., None].to(work))
            lse[:, :, rows] = torch.logaddexp(seen, block_lse)
        result = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, result, lse)
        ctx.plan, ctx.scale, ctx.work = plan, scale, work
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        plan, work = ctx.plan, ctx.work
        sums = [torch.zeros(x.shape, dtype=torch.float32) for x in (q, k, v)]
        for each in plan.buckets:
            g, *inputs = (each.rows(x[0]) for x in (grads[0], q, k, v, out))
            g.masked_fill_(each.padding[:, None, :, None], 0)
            parts = _flash_backward(g, *inputs, each.rows(lse[0]), 0.0, True, scale=ctx.scale)
            for whole, part in zip(sums, parts, strict=True):
                tokens, values = each.flat(part)
                whole[0].index_add_(1, tokens, values.float())
        dw, qw, kw, vw, ow = (x.to(work) for x in (grads[0], q, k, v, out))
        for rows, keys, causal in [*((run, run, True) for run in plan.alone), *((*pair, False) for pair in plan.later)]:
            block = (dw[:, :, rows], qw[:, :, rows], kw[:, :, keys], vw[:, :, keys], ow[:, :, rows], lse[:, :, rows])
            parts = _flash_backward(*block, 0.0, causal, scale=ctx.scale)
            for whole, part, where in zip(sums, parts, (rows, keys, keys), strict=True):
                whole[:, :, where] += part
        return *(total.to(x.dtype) for total, x in zip(sums, (q, k, v), strict=True)), None, None
