"""The body as the trainer runs it: packed rows of tokens, gradients by hand for what autograd would do in many passes.

With frozen weights and adapters, one function does a projection and its adapters. Weights that are trained go through
plain products. Letters: N packed tokens, E width, H query heads, K key heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from posttrain.models.attention import Plan
from posttrain.models.fused.inference import rotated
from posttrain.models.fused.packed_weight import PackedWeight, packed_weight
from posttrain.models.fused.parts import Layer, Norm, Parts, Projection
from posttrain.models.lora import LoraLinear


def fused_body(parts: Parts, tokens_N: Tensor, positions_N: Tensor, plan: Plan) -> Tensor:
    """Last hidden states (N, E) of one packed row."""
    x = parts.embed(tokens_N)
    cos, sin = (table[0][:, None] for table in parts.rotary(x[None], positions_N[None]))
    for i, layer in enumerate(parts.layers):
        x = x + attention(parts, i, layer, norm(x, layer.before_attention), cos, sin, plan)
        x = x + project(layer.down, GatedSilu.apply(project(layer.gate_up, norm(x, layer.before_mlp))))  # type: ignore[no-untyped-call]
    return norm(x, parts.last)


def attention(parts: Parts, index: int, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, plan: Plan) -> Tensor:
    heads, kv = parts.heads, parts.kv_heads
    qkv = project(layer.qkv, x).view(len(x), heads + 2 * kv, parts.head_size)
    qk, v = qkv.split((heads + kv, kv), 1)
    if layer.query_norm is not None and layer.key_norm is not None:
        qk = torch.cat([norm(qk[:, :heads], layer.query_norm), norm(qk[:, heads:], layer.key_norm)], 1)
    rotated_qk: Tensor = Rotated.apply(qk, cos, sin)  # type: ignore[no-untyped-call]
    q, k, v = (each.transpose(0, 1)[None] for each in (*rotated_qk.split((heads, kv), 1), v))
    seen = plan.attend(index, q, k, v, layer.scaling)
    return project(layer.out, seen.reshape(len(x), -1))


def norm(x: Tensor, settings: Norm) -> Tensor:
    result: Tensor = RmsNorm.apply(x, settings.weight, settings.epsilon)  # type: ignore[no-untyped-call]
    return result


def project(projection: Projection, x: Tensor) -> Tensor:
    """Outputs of the projection's layers, side by side: (N, sum of their sizes)."""
    weights, bias = projection.weights, projection.bias
    if any(weight.requires_grad for weight in weights):
        return F.linear(x, torch.cat(weights) if len(weights) > 1 else weights[0], bias)
    active = [layer if isinstance(layer, LoraLinear) and layer.active else None for layer in projection.layers]
    adapters = [tensor for layer in active if layer is not None for tensor in (layer.lora_A, layer.lora_B)]
    sizes = [len(weight) for weight in weights]
    result: Tensor = FrozenProjection.apply(x, packed_weight(weights), bias, active, sizes, *adapters)  # type: ignore[no-untyped-call]
    return result


class FrozenProjection(torch.autograd.Function):
    """y = x Wᵀ + b + Σ scaling · (x Aᵀ) Bᵀ over the stacked layers, W and b frozen. The adapters of all layers are one pair
    of products: their A stacked, their B on the diagonal of one matrix."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: PackedWeight,
        bias: Tensor | None,
        layers: Sequence[LoraLinear | None],
        sizes: Sequence[int],
        *adapters: Tensor,
    ) -> Tensor:
        y = weight.linear(x, bias)
        low = None
        if adapters:
            a, b = stacked_adapters(layers, sizes, adapters)
            low = x @ a.T
            y.addmm_(low, b.T)
        ctx.save_for_backward(x if adapters else None, low, *adapters)
        ctx.weight, ctx.layers, ctx.sizes = weight, layers, sizes
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, low, *adapters = ctx.saved_tensors
        g = grads[0]
        grad_x = ctx.weight.back(g) if ctx.needs_input_grad[0] else None
        if not adapters:
            return grad_x, None, None, None, None
        a, b = stacked_adapters(ctx.layers, ctx.sizes, adapters)
        grad_low = g @ b
        if grad_x is not None:
            grad_x.addmm_(grad_low, a)
        grad_a, grad_b = grad_low.T @ x, g.T @ low
        found: list[Tensor] = []
        row = column = 0
        for layer, size in zip(ctx.layers, ctx.sizes, strict=True):
            if layer is not None:
                rank = len(layer.lora_A)
                found.append(grad_a[column : column + rank])
                found.append(grad_b[row : row + size, column : column + rank] * layer.scaling)
                column += rank
            row += size
        return grad_x, None, None, None, None, *found


def stacked_adapters(
    layers: Sequence[LoraLinear | None], sizes: Sequence[int], adapters: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """A of all layers stacked (R, E), and their B · scaling on the diagonal of (sum of sizes, R)."""
    a = torch.cat(list(adapters[0::2]))
    b = a.new_zeros(sum(sizes), len(a))
    row = column = 0
    given = iter(adapters[1::2])
    for layer, size in zip(layers, sizes, strict=True):
        if layer is not None:
            rank = len(layer.lora_A)
            torch.mul(next(given), layer.scaling, out=b[row : row + size, column : column + rank])
            column += rank
        row += size
    return a, b


class RmsNorm(torch.autograd.Function):
    """y = weight · x / rms(x) over the last dimension, statistics in fp32 (arXiv:1910.07467, equation 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        full = x.float()
        scale = full.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (full * scale).to(x.dtype) * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        unit = x * scale  # fp32, as scale is
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grads[0] * unit).flatten(0, -2).sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None
        g = grads[0].float() * weight if weight.dtype is torch.float32 else (grads[0] * weight).float()
        along = (g * unit).mean(-1, keepdim=True)
        return g.sub_(unit.mul_(along)).mul_(scale).to(x.dtype), grad_weight, None


class Rotated(torch.autograd.Function):
    """Rotary position embedding: a rotation, so the gradient is rotated back."""

    @staticmethod
    def forward(ctx: Any, x_NHD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return rotated(x_NHD, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        half = cos.shape[-1] // 2
        g = grads[0]
        out = g * cos
        out[..., :half].addcmul_(g[..., half:], sin[..., half:])
        out[..., half:].addcmul_(g[..., :half], sin[..., :half], value=-1)
        return out, None, None


class GatedSilu(torch.autograd.Function):
    """(N, 2M), gate beside up -> silu(gate) · up, (N, M)."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        out = torch.empty_like(gate_up)
        grad_gate, grad_up = out.chunk(2, -1)
        torch.mul(F.silu(gate), grads[0], out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grads[0] * up, gate, grad_input=grad_gate)
        return out
