"""What the registered attention does in a prefill and in a decode step.

A decode step attends to the prompt, stored once for all rows of its group, and to the row's own tokens: two small
products, one softmax over both, two products. The prompt's part takes all rows of a group as queries of one product,
so its keys and values are read once a group and not once a row (Hydragen, arXiv:2402.05099; one softmax over both parts
needs no merge by log-sum-exp). Query heads of one key-value head are rows of the same product too.
Prompts are padded to the longest one running: lengths that differ a lot waste work, not correctness.
Letters: B rows, T tokens, H query heads, K key-value heads, g = H/K, D head size, P prompts, G most rows of a prompt,
L prompt width, W own width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posttrain.generation.native.cache import Block
from posttrain.generation.native.window import Window


@dataclass(frozen=True)
class Run:
    """Prompts of one length that lie one after another in a packed prefill, from token `start` on."""

    slots_N: Tensor
    start: int
    length: int


@dataclass(frozen=True)
class Prefill:
    """Causal attention within each prompt of one packed row, writing the prompts' keys and values."""

    prompts: Block
    runs: Sequence[Run]

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scaling: float) -> Tensor:
        out_BTHD = torch.zeros_like(q_BHTD.transpose(1, 2), memory_format=torch.contiguous_format)  # the padding behind stays 0
        for run in self.runs:
            count = len(run.slots_N)
            here = slice(run.start, run.start + count * run.length)
            q, k, v = (x[0, :, here].unflatten(1, (count, run.length)).transpose(0, 1) for x in (q_BHTD, k_BKTD, v_BKTD))
            self.prompts.write(layer, run.slots_N, k, v)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
            out_BTHD[0, here] = attended.transpose(1, 2).flatten(0, 1)
        return out_BTHD


@dataclass(frozen=True)
class Decode:
    """One new token a row. `order_PG` lists the rows of each prompt (short groups repeat a row), `place_B` is where each
    row is in that list; both are None where the list is the rows themselves. `mask_BW` is 0 or -inf over the prompt's
    width and then the row's own, both as wide as their blocks."""

    prompts: Block | Window
    own: Block | Window
    prompt_count: int
    rows_B: Tensor
    places_B: Tensor
    order_PG: Tensor | None
    place_B: Tensor | None
    mask_BW: Tensor

    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scaling: float) -> Tensor:
        rows, heads, _, size = q_BHTD.shape
        kv = k_BKTD.shape[1]
        shape = (rows, kv, heads // kv, -1)
        self.own.append(layer, self.rows_B, self.places_B, k_BKTD[:, :, 0], v_BKTD[:, :, 0])
        own_k, own_v = self.own.read(layer, rows)
        prompt_k, prompt_v = self.prompts.read(layer, self.prompt_count)
        width = self.prompts.length

        q = q_BHTD.reshape(shape)
        scores = torch.empty(*shape[:3], width + self.own.length, dtype=torch.float32, device=q.device)
        scores[..., :width] = self.by_row(torch.bmm(self.by_prompt(q), prompt_k), shape)
        scores[..., width:] = torch.bmm(q.flatten(0, 1), own_k).view(shape)
        weights = torch.softmax(torch.add(self.mask_BW[:, None, None], scores, alpha=scaling), -1).to(q.dtype)

        out = torch.bmm(weights[..., width:].flatten(0, 1), own_v).view(shape)
        out = out + self.by_row(torch.bmm(self.by_prompt(weights[..., :width]), prompt_v), shape)
        return out.reshape(rows, 1, heads, size)

    def by_prompt(self, x_BKgX: Tensor) -> Tensor:
        """(B, K, g, X) -> (P·K, G·g, X): all rows of a prompt as queries of one product."""
        listed = x_BKgX if self.order_PG is None else x_BKgX[self.order_PG]
        count, kv, g, width = listed.shape
        prompts, most = self.prompt_count, count // self.prompt_count
        return listed.view(prompts, most, kv, g, width).transpose(1, 2).reshape(prompts * kv, most * g, width)

    def by_row(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The way back."""
        _, kv, g, _ = shape
        listed = x.view(self.prompt_count, kv, -1, g, x.shape[-1]).transpose(1, 2).reshape(-1, kv, g, x.shape[-1])
        return listed if self.place_B is None else listed[self.place_B]


def visible(prompts_B: Tensor, prompt_width: int, places_B: Tensor, own_width: int) -> Tensor:
    """0 where a row may look and -inf elsewhere: its prompt, then its own tokens up to the one being read."""
    columns_W = torch.arange(prompt_width + own_width, device=places_B.device)
    prompt = columns_W < prompts_B[:, None]
    own = (columns_W >= prompt_width) & (columns_W - prompt_width <= places_B[:, None])
    return torch.zeros(prompt.shape, device=places_B.device).masked_fill_(~(prompt | own), -torch.inf)


def group_order(prompt_of_row: Sequence[int], prompts: int, most: int = 0) -> tuple[list[int], list[int]]:
    """Rows listed by prompt, every prompt with as many entries as the largest, or `most` (a short one repeats its first row, or
    row 0), and each row's place in that list."""
    members: list[list[int]] = [[] for _ in range(prompts)]
    for row, prompt in enumerate(prompt_of_row):
        members[prompt].append(row)
    most = max(most, *map(len, members))
    order = [row for rows in members for row in rows + [rows[0] if rows else 0] * (most - len(rows))]
    place = [0] * len(prompt_of_row)
    for prompt, rows in enumerate(members):
        for i, row in enumerate(rows):
            place[row] = prompt * most + i
    return order, place
