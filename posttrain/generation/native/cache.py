"""Keys and values: one block for the prompts, each stored once, and one for what every row wrote itself.

Keys lie transposed, (slots, K, D, tokens): that is how the product with the queries reads them, also where only the
first tokens of a slot are in use. A block grows by copying when it must, and stays allocated between calls, because
fresh memory costs more than the arithmetic. Letters: K key-value heads, D head size.
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
        self.keys = [torch.empty(0, heads, head_size, 0, dtype=dtype, device=device) for _ in range(layers)]
        self.values = [torch.empty(0, heads, 0, head_size, dtype=dtype, device=device) for _ in range(layers)]

    def fit(self, slots: int, length: int) -> None:
        """Have room for so many slots and tokens. Grows both ways where that stays within the bound, else just enough."""
        if slots <= self.slots and length <= self.length:
            return
        wide = max(slots, self.slots), max(length, self.length)
        slots, length = wide if wide[0] * wide[1] <= self.most_tokens else (slots, length)
        kept, used = min(slots, self.slots), min(length, self.length)
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            self.keys[layer] = keys.new_zeros(slots, self.heads, self.head_size, length)  # zeros: 0 x NaN is NaN, masked or not
            self.values[layer] = values.new_zeros(slots, self.heads, length, self.head_size)
            self.keys[layer][:kept, :, :, :used] = keys[:kept, :, :, :used]
            self.values[layer][:kept, :, :used] = values[:kept, :, :used]
        self.slots, self.length = slots, length

    def move(self, source: int, target: int, length: int) -> None:
        if not length:
            return
        for keys, values in zip(self.keys, self.values, strict=True):
            keys[target, :, :, :length] = keys[source, :, :, :length]
            values[target, :, :length] = values[source, :, :length]

    def write(self, layer: int, slots_N: Tensor, k_NKTD: Tensor, v_NKTD: Tensor) -> None:
        """Store whole sequences."""
        length = k_NKTD.shape[2]
        self.keys[layer][slots_N, :, :, :length] = k_NKTD.transpose(2, 3)
        self.values[layer][slots_N, :, :length] = v_NKTD

    def append(self, layer: int, rows_B: Tensor, places_B: Tensor, k_BKD: Tensor, v_BKD: Tensor) -> None:
        """Store one token a row, each at its own place."""
        self.keys[layer][rows_B, :, :, places_B] = k_BKD
        self.values[layer][rows_B, :, places_B] = v_BKD

    def read(self, layer: int, slots: int, length: int) -> tuple[Tensor, Tensor]:
        """Keys (slots·K, D, length) and values (slots·K, length, D) of the first slots, without copying."""
        heads = slots * self.heads
        return self.keys[layer].flatten(0, 1)[:heads, :, :length], self.values[layer].flatten(0, 1)[:heads, :length]
