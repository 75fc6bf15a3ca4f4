"""The first tokens of every slot of a block, read in place.

A recorded decode step (graphs.py) must find keys and values where they were, so on a GPU a slot has room for its longest row from
the start, and a step reads only as much of every slot as its rows have come to. On a CPU a block is laid out anew instead
(cache.py), because the matrix library there copies operands with holes between them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from posttrain.generation.native.cache import Block


@dataclass(frozen=True)
class Window:
    """What a decode step needs of a block, `length` tokens of each slot wide."""

    block: Block
    length: int

    def append(self, layer: int, rows_B: Tensor, places_B: Tensor, k_BKD: Tensor, v_BKD: Tensor) -> None:
        self.block.append(layer, rows_B, places_B, k_BKD, v_BKD)

    def read(self, layer: int, slots: int) -> tuple[Tensor, Tensor]:
        """As Block.read: keys (slots·K, D, length) and values (slots·K, length, D), views both."""
        keys, values = (x[layer][:slots, :, : self.length].flatten(0, 1) for x in (self.block.keys, self.block.values))
        return keys.transpose(1, 2), values
