"""The body as the sampler runs it: no gradients, every product's weights packed, residuals added inside the product."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from posttrain.models.attention import Plan
from posttrain.models.fused.packed_weight import PackedWeight, packed_weight
from posttrain.models.fused.parts import Layer, Norm, Parts, Projection, parts_of


class FusedBody:
    """What derives from a plain model's weights. `refresh` derives it anew after they changed; `stale` names what was not."""

    def __init__(self, model: PreTrainedModel, parts: Parts) -> None:
        self.model, self.parts = model, parts
        self._packed: dict[int, tuple[PackedWeight, Tensor | None]] = {}
        self.refresh()

    @staticmethod
    def of(model: PreTrainedModel) -> FusedBody | None:
        parts = parts_of(model)
        return FusedBody(model, parts) if parts is not None else None

    @torch.no_grad()
    def refresh(self) -> None:
        for projection in self._projections():
            bias = projection.bias
            _, before = self._packed.get(id(projection), (None, None))
            if bias is not None and before is not None:
                bias = before.copy_(bias)  # in place, as all weights change: recorded steps know addresses
            self._packed[id(projection)] = packed_weight(projection.weights), bias

    def biases(self) -> list[Tensor]:
        """What `refresh` made besides layouts."""
        return [bias for _, bias in self._packed.values() if bias is not None]

    def stale(self) -> list[str]:
        """Layers whose weights were written to after they were packed."""
        return [
            f"layer {i}"
            for i, layer in enumerate(self.parts.layers)
            for projection in (layer.qkv, layer.out, layer.gate_up, layer.down)
            if not self._packed[id(projection)][0].current(projection.weights)
        ]

    def _projections(self) -> list[Projection]:
        return [each for layer in self.parts.layers for each in (layer.qkv, layer.out, layer.gate_up, layer.down)]

    def __call__(self, tokens_BT: Tensor, positions_BT: Tensor, plan: Plan) -> Tensor:
        """Last hidden states (B, T, E)."""
        parts = self.parts
        x = parts.embed(tokens_BT)
        shape = x.shape
        cos, sin = parts.rotary(x, positions_BT)
        x = x.flatten(0, 1)
        cos, sin = (table.expand(*shape[:2], -1).flatten(0, 1)[:, None] for table in (cos, sin))
        for i, layer in enumerate(parts.layers):
            x = self._attend(i, layer, x, cos, sin, plan, shape)
            gate_up = self._linear(layer.gate_up, rms_norm(x, layer.before_mlp))
            gate, up = gate_up.chunk(2, -1)
            x = self._linear(layer.down, F.silu(gate).mul_(up), plus=x)
        return rms_norm(x, parts.last).view(shape)

    def _attend(self, index: int, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, plan: Plan, shape: torch.Size) -> Tensor:
        heads, kv, size = self.parts.heads, self.parts.kv_heads, self.parts.head_size
        qkv = self._linear(layer.qkv, rms_norm(x, layer.before_attention)).view(-1, heads + 2 * kv, size)
        qk, v = qkv[:, : heads + kv], qkv[:, heads + kv :]
        if layer.query_norm is not None and layer.key_norm is not None:
            qk = torch.cat([rms_norm(qk[:, :heads], layer.query_norm), rms_norm(qk[:, heads:], layer.key_norm)], 1)
        qk = rotated(qk, cos, sin)
        q, k, v = (y.view(*shape[:2], -1, size).transpose(1, 2) for y in (qk[:, :heads], qk[:, heads:], v))
        return self._linear(layer.out, plan.attend(index, q, k, v, layer.scaling).reshape(len(x), -1), plus=x)

    def _linear(self, projection: Projection, x: Tensor, plus: Tensor | None = None) -> Tensor:
        packed, bias = self._packed[id(projection)]
        return packed.linear(x, bias, plus)


def rms_norm(x: Tensor, norm: Norm) -> Tensor:
    """Statistics in fp32, the product with the weight in the input's precision, as transformers rounds."""
    full = x.float()
    scale = full.square().mean(-1, keepdim=True).add_(norm.epsilon).rsqrt_()
    return (full * scale).to(x.dtype).mul_(norm.weight)


def rotated(x_NHD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (arXiv:2104.09864) of heads; cos and sin (N, 1, D), their halves may differ."""
    half = x_NHD.shape[-1] // 2
    out = x_NHD * cos
    out[..., :half].addcmul_(x_NHD[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x_NHD[..., :half], sin[..., half:])
    return out
