"""Keys and values: one block for the prompts, each stored once, and one for what every row wrote itself.

A slot is as wide as the longest sequence in use, rounded up, so that the first slots of a layer are one contiguous tensor:
the matrix library copies operands that are not. When the width changes, what is in use moves, within memory that stays
allocated between calls, because fresh memory costs more than the arithmetic. Letters: K key-value heads, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Block:
    """Keys and values of every layer for `slots` sequences of up to `length` tokens."""

    def __init__(
        self, layers: int, heads: int, head_size: int, *, dtype: torch.dtype, device: torch.device, most_tokens: int
    ) -> None:
        self.heads, self.head_size, self.most_tokens = heads, head_size, most_tokens
        self.slots = self.length = 0
        empty = torch.empty(0, dtype=dtype, device=device)
        self._memory = [(empty, empty) for _ in range(layers)]
        self.keys = [empty.view(0, heads, 0, head_size) for _ in range(layers)]
        self.values = list(self.keys)

    def fit(self, slots: int, length: int) -> None:
        """Give each of `slots` sequences exactly `length` tokens of room, keeping what fits of what is there."""
        if length == self.length and slots <= self.slots:
            return
        per_slot = self.heads * length * self.head_size
        room = self._memory[0][0].numel() // per_slot
        grown = 0 if room >= slots else max(slots, min(2 * self.slots, self.most_tokens // length))
        for layer, memory in enumerate(self._memory):
            kept = [each[layer][:slots, :, :length].clone() for each in (self.keys, self.values)]
            if grown:  # zeros: 0 x NaN is NaN, masked or not
                memory = self._memory[layer] = tuple(each.new_zeros(grown * per_slot) for each in memory)  # type: ignore[assignment]
            for target, flat, old in zip((self.keys, self.values), memory, kept, strict=True):
                target[layer] = flat[: (grown or room) * per_slot].view(-1, self.heads, length, self.head_size)
                target[layer][: len(old), :, : old.shape[2]] = old
        self.slots, self.length = grown or room, length

    def move(self, source: int, target: int, length: int) -> None:
        if not length:
            return
        for keys, values in zip(self.keys, self.values, strict=True):
            keys[target, :, :length] = keys[source, :, :length]
            values[target, :, :length] = values[source, :, :length]

    def write(self, layer: int, slots_N: Tensor, k_NKTD: Tensor, v_NKTD: Tensor) -> None:
        """Store whole sequences."""
        length = k_NKTD.shape[2]
        self.keys[layer][slots_N, :, :length] = k_NKTD
        self.values[layer][slots_N, :, :length] = v_NKTD

    def append(self, layer: int, rows_B: Tensor, places_B: Tensor, k_BKD: Tensor, v_BKD: Tensor) -> None:
        """Store one token a row, each at its own place."""
        self.keys[layer][rows_B, :, places_B] = k_BKD
        self.values[layer][rows_B, :, places_B] = v_BKD

    def read(self, layer: int, slots: int) -> tuple[Tensor, Tensor]:
        """Keys (slots·K, D, length), a transposed view, and values (slots·K, length, D) of the first slots."""
        heads = slots * self.heads
        return self.keys[layer].flatten(0, 1)[:heads].transpose(1, 2), self.values[layer].flatten(0, 1)[:heads]
