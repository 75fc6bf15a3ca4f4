"""Attention over runs of few keys as plain matrix products, and its backward.

Up to some hundred keys a few large products are faster on a CPU than its flash kernel, the backward most of all. A run's keys
are what it sees before itself and its own, gathered side by side, so that one softmax does both. Gathering is by rows of
one head: one index gives the layout that the products read. The query heads of a key head are stacked as rows of one product.
In bf16 models the products that lead to small differences of large numbers (the scores, and the gradient of the
probabilities) give fp32; their inputs are bf16 numbers, so asking for bf16 products loses nothing. The backward computes the
probabilities again: kept, they grow with the length (docs/decisions.md, 28).
Letters: N packed tokens, R runs of a batch, H query heads, K key heads, G = H/K, B = R·K, T queries, S keys, D head size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from posttrain.models.runs import Run, shape, size

Shared = tuple[slice, tuple[slice, ...]]
"""Runs of a batch, and the tokens all of them see before themselves."""


@dataclass(frozen=True)
class Bucket:
    """Runs padded to one size. `queries_RT` and `keys_RS` are packed tokens, `real_RT` says which queries are not padding, and
    `hidden` (R or 1, T, S) is -inf where a query may not look; the first `prefix` keys are those before the run."""

    queries_RT: Tensor
    real_RT: Tensor
    keys_RS: Tensor
    hidden: Tensor
    prefix: int
    shared: Sequence[Shared]


def bucket(batch: Sequence[Run]) -> Bucket:
    rows, queries, prefix = shape(batch)
    runs = [*batch, *[batch[-1]] * (rows - len(batch))]  # the last one again, unread, where rows are padded
    place = torch.arange(queries)
    starts, ends = (torch.tensor([getattr(run.own, side) for run in runs])[:, None] for side in ("start", "stop"))
    own = torch.minimum(starts + place, ends - 1)  # behind its end the last token again, which no other one sees
    real = starts + place < ends
    real[len(batch) :] = False
    before = starts.repeat(1, prefix)
    for row, run in enumerate(runs):
        before[row, : run.prefix] = torch.cat([torch.arange(part.start, part.stop) for part in run.before] or [place[:0]])
    prefixes = torch.tensor([run.prefix for run in runs])[:, None]
    if bool((prefixes == prefixes[0]).all()):
        prefixes = prefixes[:1]
    hidden = torch.zeros(len(prefixes), queries, prefix + queries)
    hidden[..., prefix:] = torch.full((queries, queries), -torch.inf).triu_(1)
    hidden[..., :prefix].masked_fill_((torch.arange(prefix) >= prefixes)[:, None], -torch.inf)
    return Bucket(own, real, torch.cat([before, own], 1), hidden, prefix, sharing(batch))


def sharing(batch: Sequence[Run]) -> list[Shared]:
    found: list[Shared] = []
    for row, run in enumerate(batch):
        if found and found[-1][1] == run.before:
            found[-1] = (slice(found[-1][0].start, row + 1), run.before)
        else:
            found.append((slice(row, row + 1), run.before))
    return [(rows, before) for rows, before in found if before]


@dataclass(frozen=True)
class Part:
    """One bucket's place in the gathered rows, and what its products need."""

    bucket: Bucket
    q: slice
    k: slice
    hidden: Tensor
    kv_heads: int

    def queries(self, rows: Tensor) -> Tensor:
        """(rows, ...) -> (B, G·T, ...)"""
        count = len(self.bucket.queries_RT) * self.kv_heads
        return rows[self.q].view(count, -1, *rows.shape[1:])

    def keys(self, rows: Tensor) -> Tensor:
        """(rows, ...) -> (B, S, ...)"""
        return rows[self.k].view(-1, self.bucket.keys_RS.shape[1], *rows.shape[1:])


class Gathered:
    """All buckets for a model's heads, as rows of one head: where each is read from, and where it goes back to."""

    def __init__(self, buckets: Sequence[Bucket], heads: int, kv_heads: int) -> None:
        group = heads // kv_heads
        offset_KG = torch.arange(heads).view(kv_heads, group)
        q_rows, k_rows, real, parts, own = [], [], [], [], []
        q = k = 0
        for each in buckets:
            rows, queries = each.queries_RT.shape
            q_rows.append((each.queries_RT[:, None, None] * heads + offset_KG[:, :, None]).flatten())
            real.append(each.real_RT[:, None, None].expand(rows, kv_heads, group, queries).flatten())
            k_rows.append((each.keys_RS[:, None] * kv_heads + torch.arange(kv_heads)[:, None]).flatten())
            is_own = torch.zeros(rows, kv_heads, each.keys_RS.shape[1], dtype=torch.bool)
            is_own[..., each.prefix :] = each.real_RT[:, None]
            own.append(is_own.flatten())
            hidden = each.hidden.repeat_interleave(kv_heads, 0) if len(each.hidden) > 1 else each.hidden
            after = q + rows * heads * queries, k + len(k_rows[-1])
            parts.append(Part(each, slice(q, after[0]), slice(k, after[1]), hidden.repeat(1, group, 1), kv_heads))
            q, k = after
        self.parts: Sequence[Part] = parts
        self.q_rows, self.k_rows = torch.cat(q_rows), torch.cat(k_rows)
        kept, own_keys = torch.cat(real), torch.cat(own)
        self.padding = (~kept).nonzero()[:, 0]
        self.back_q, self.back_k = inverse(self.q_rows, kept), inverse(self.k_rows, own_keys)
        self.tokens = torch.cat([each.queries_RT[each.real_RT] for each in buckets]).sort().values


def inverse(rows: Tensor, kept: Tensor) -> Tensor:
    """Where each row that is kept was gathered to, in the rows' own order."""
    places = kept.nonzero()[:, 0]
    return places[rows[places].argsort()]


def attend_short(plan: Gathered, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor, scale: float) -> Tensor:
    """Outputs (n, H, D) of `plan.tokens`."""
    q = by_head(q_NHD).index_select(0, plan.q_rows)
    k, v = (by_head(x).index_select(0, plan.k_rows) for x in (k_NKD, v_NKD))
    o = torch.empty_like(q)
    for part in plan.parts:
        torch.bmm(probabilities(part, q, k, scale), part.keys(v), out=part.queries(o))
    return o.index_select(0, plan.back_q).view(-1, *q_NHD.shape[1:])


def probabilities(part: Part, q: Tensor, k: Tensor, scale: float) -> Tensor:
    """(B, G·T, S), in the inputs' precision."""
    with full_results(q.dtype):
        scores = torch.baddbmm(part.hidden, part.queries(q).float(), part.keys(k).float().mT, alpha=scale)
    return torch.softmax(scores, -1).to(q.dtype)


def attend_short_backward(
    plan: Gathered, g: Tensor, out: Tensor, q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients as gathered rows of one head: of q at `plan.q_rows`, of k and v at `plan.k_rows`, what is before a run included.
    g and out (N, H, D); Σ g · out over D is Σ p · dp over keys (arXiv:2205.14135, appendix B.4)."""
    g, o, q = (by_head(x).index_select(0, plan.q_rows) for x in (g, out, q_NHD))
    k, v = (by_head(x).index_select(0, plan.k_rows) for x in (k_NKD, v_NKD))
    g.index_fill_(0, plan.padding, 0)
    delta = (g.float() * o).sum(-1, keepdim=True)
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    for part in plan.parts:
        block_g, block_q, p = part.queries(g), part.queries(q), probabilities(part, q, k, scale)
        with full_results(q.dtype):
            ds = torch.bmm(block_g.float(), part.keys(v).float().mT)
        ds = ds.sub_(part.queries(delta)).mul_(p.float()).mul_(scale).to(q.dtype)
        torch.bmm(ds, part.keys(k), out=part.queries(dq))
        torch.bmm(ds.mT, block_q, out=part.keys(dk))
        torch.bmm(p.mT, block_g, out=part.keys(dv))
    return dq, dk, dv


def add_shared(plan: Gathered, rows: Tensor, total_NKD: Tensor) -> Tensor:
    """Add what every run gives to the keys before it to the whole row's gradients, which are fp32."""
    for part in plan.parts:
        per_run = part.keys(rows).unflatten(0, (-1, part.kv_heads))  # (R, K, S, D)
        for runs, before in part.bucket.shared:
            given = per_run[runs, :, : sum(map(size, before))].sum(0, dtype=torch.float32).transpose(0, 1)
            for tokens, values in zip(before, given.split([size(tokens) for tokens in before]), strict=True):
                total_NKD[tokens] += values
    return total_NKD


def by_head(x_NHD: Tensor) -> Tensor:
    """(N·H, D)"""
    return x_NHD.contiguous().flatten(0, 1)


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
