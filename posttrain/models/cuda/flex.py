"""Attention over a packed row on a GPU: FlexAttention (arXiv:2412.05496) with a mask that is read off `reach`.

Token i sees token j exactly if j <= i < reach[j] (see packing.py). The kernel works on blocks of 128 queries by 128 keys and
passes over those without a visible pair. Which these are follows from the smallest and the largest reach among a block's keys,
so the mask of all pairs, which grows with the square of the row, is never made: 16,384 tokens have 128 x 128 blocks.

Assumes that every token sees itself (reach[j] > j), as packing makes it. The kernel is compiled by Triton at the first call, which
takes seconds, and once more when the row's length first changes. Fails without Triton and in fp32: `possible` says so, and the
caller then attends with the mask of all pairs. On a CPU torch runs the same operation without a kernel, forwards only: for tests.
Letters: H query heads, K key heads, N tokens, D head size, Q blocks of queries (and of keys).
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128
"""Queries, and keys, of a block: what the kernel reads at once."""

Sees = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""FlexAttention's form of a mask: (row of the batch, head, query, key) -> may the query see the key?"""


def possible(q: Tensor) -> bool:
    """Whether FlexAttention has a kernel for queries like these."""
    half = q.dtype in (torch.bfloat16, torch.float16)
    return q.device.type == "cuda" and half and importlib.util.find_spec("triton") is not None


def sees(reach_N: Tensor) -> Sees:
    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < reach_N[key])

    return mask


def blocks(reach_N: Sequence[int]) -> tuple[Tensor, Tensor]:
    """For blocks of queries (rows) and of keys (columns), two boolean (Q, Q): some pair is visible but not all; all are.

    In a block of keys before the queries' own every key comes early enough, so only reach decides: some pair is visible if the
    largest reach goes beyond the first query, all are if the smallest covers the last one. The queries' own block always has
    some (each token itself) and never all (no token sees the next).
    """
    count = -(-len(reach_N) // BLOCK)
    reach = F.pad(torch.tensor(reach_N), (0, count * BLOCK - len(reach_N))).view(count, BLOCK)
    number = torch.arange(count)
    first = number[:, None] * BLOCK
    before = number < number[:, None]
    all_ = before & (reach.amin(1) >= first + BLOCK)
    some = (before & (reach.amax(1) > first)) | torch.eye(count, dtype=torch.bool)
    return some & ~all_, all_


def block_mask(reach_N: Sequence[int], device: torch.device) -> BlockMask:
    """Made once for a packed row; every layer uses it."""
    some, all_ = blocks(reach_N)
    reach = torch.tensor(reach_N, dtype=torch.int32, device=device)
    return BlockMask.from_kv_blocks(
        *listed(some, device), *listed(all_, device), BLOCK_SIZE=BLOCK, mask_mod=sees(reach), seq_lengths=(len(reach_N),) * 2
    )


def listed(blocks_QQ: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has, (1, 1, Q), and their numbers before all others, (1, 1, Q, Q)."""
    chosen = blocks_QQ.int()
    numbers = chosen.argsort(dim=-1, descending=True, stable=True)
    counts, numbers = (x.to(device, torch.int32)[None, None].contiguous() for x in (chosen.sum(-1), numbers))
    return counts, numbers


def attend(q_BHND: Tensor, k_BKND: Tensor, v_BKND: Tensor, mask: BlockMask, scaling: float) -> Tensor:
    """Attention output (1, H, N, D), differentiable on a GPU."""
    return cast(Tensor, kernel()(q_BHND, k_BKND, v_BKND, block_mask=mask, scale=scaling, enable_gqa=True))


@functools.cache
def kernel() -> Any:
    """Compiled when first called, and only then: importing this costs nothing."""
    return torch.compile(flex_attention)
