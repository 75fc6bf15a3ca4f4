"""Frozen weights in the layout oneDNN reads, laid out once instead of at every product (bf16 on CPUs only).

Several weights that take the same input are one product: their rows are stacked. A packed copy is as large as the weights
it is made of, so above a bound, and on other devices, the weights stay as they are. A packed copy remembers the version of
every weight, and is made again when one of them was written to.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

LARGEST = 4 * 2**30
"""Bytes of packed weights in one process."""


class PackedWeight:
    """Weights (O_i, I) of layers with the same input, their outputs side by side. Laid out when first needed."""

    taken = 0

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = [weakref.ref(weight) for weight in weights]  # weak: the cache below must not keep a model alive
        self._versions = versions(weights)
        self._size = sum(weight.numel() * weight.element_size() for weight in weights)
        self._forward: Tensor | None = None

    def __del__(self) -> None:
        PackedWeight.taken -= self._size * (self._forward is not None)

    def current(self, weights: Sequence[Tensor]) -> bool:
        """True if none of the weights was written to since."""
        return self._versions == versions(weights)

    def linear(self, x: Tensor, bias: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
        """x (N, I) -> (N, O), with a bias and another (N, O) added where given."""
        if self._forward is None and self._fits():
            self._forward = packed(self._stacked())
        if self._forward is None:
            y = torch.cat([F.linear(x, weight) for weight in self._plain()], -1)
            y = y if bias is None else y.add_(bias)
        elif plus is not None and bias is None:
            fused: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, plus, self._forward, None, "add")
            return fused
        else:
            y = torch.ops.mkldnn._linear_pointwise(x, self._forward, bias, "none", [], "")
        return y if plus is None else y.add_(plus)

    def back(self, g: Tensor) -> Tensor:
        """The gradient of x: g (N, O) -> (N, I). From the weights as they are: a second layout gained nothing measurable."""
        weights = self._plain()
        first, *rest = zip(g.split([len(weight) for weight in weights], -1), weights, strict=True)
        grad: Tensor = first[0] @ first[1]
        for part, weight in rest:
            grad = torch.addmm(grad, part, weight)
        return grad

    def _plain(self) -> list[Tensor]:
        return [weight.detach() for found in self._weights if (weight := found()) is not None]

    def _stacked(self) -> Tensor:
        return torch.cat(self._plain())

    def _fits(self) -> bool:
        if not can_pack(self._plain()[0]) or PackedWeight.taken + self._size > LARGEST:
            return False
        PackedWeight.taken += self._size
        return True


def packed(weight: Tensor) -> Tensor:
    with torch.inference_mode(False):
        made: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return made


def versions(weights: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Changes whenever a weight is written to or replaced."""
    return [(weight.data_ptr(), weight._version) for weight in weights]


def can_pack(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype is torch.bfloat16
        and bool(torch.backends.mkldnn.is_available())
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


_known = WeakIdKeyDictionary()


def packed_weight(weights: Sequence[Tensor]) -> PackedWeight:
    """The packed form of these weights, made once; models that share frozen weights share it."""
    found: PackedWeight | None = _known.get(weights[0])
    if found is None or not found.current(weights):
        found = _known[weights[0]] = PackedWeight(weights)
    return found
