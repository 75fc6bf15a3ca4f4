"""Weights in the layout oneDNN reads (bf16 on CPUs only).

Several weights that take the same input are one product: their rows are stacked. The sampler, whose products have few rows,
lays weights out once. That copy is as large as the weights it is made of, so above a bound, and on other devices, the weights
stay as they are. It remembers the version of every weight, and is made again when one of them was written to. Training has
many rows to a product: it lays weights out at each one and keeps nothing, which costs a few percent of the product.
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
            self._forward = packed(torch.cat(self._plain()))
        if self._forward is None:
            y = beside(x, self._plain(), bias)
        elif plus is not None and bias is None:
            fused: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, plus, self._forward, None, "add")
            return fused
        else:
            y = product(x, self._forward, bias)
        return y if plus is None else y.add_(plus)

    def _plain(self) -> list[Tensor]:
        return [weight.detach() for found in self._weights if (weight := found()) is not None]

    def _fits(self) -> bool:
        if not can_pack(self._plain()[0]) or PackedWeight.taken + self._size > LARGEST:
            return False
        PackedWeight.taken += self._size
        return True


def linear_once(x: Tensor, weights: Sequence[Tensor], bias: Tensor | None = None) -> Tensor:
    """x (N, I) -> (N, O), by weights laid out for this product alone."""
    if not can_pack(weights[0]) or x.dtype is not weights[0].dtype:
        return beside(x, weights, bias)
    return product(x, packed(torch.cat(list(weights)) if len(weights) > 1 else weights[0]), bias)


def linear_back(g: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The gradient of x: g (N, O) -> (N, I). From the weights as they are: a layout for it gained nothing measurable."""
    first, *rest = zip(g.split([len(weight) for weight in weights], -1), weights, strict=True)
    grad: Tensor = first[0] @ first[1]
    for part, weight in rest:
        grad = torch.addmm(grad, part, weight)
    return grad


def beside(x: Tensor, weights: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    y = torch.cat([F.linear(x, weight) for weight in weights], -1) if len(weights) > 1 else F.linear(x, weights[0])
    return y if bias is None else y.add_(bias)


def product(x: Tensor, layout: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, layout, bias, "none", [], "")
    return y


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
