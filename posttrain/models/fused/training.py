"""The body as the trainer runs it: packed rows of tokens, gradients by hand for what autograd would do in many passes.

One function does a projection, its adapters, and the norm or gate before it, whose output is computed again in the backward:
cheap, and a third of what a layer would keep. Letters: N packed tokens, E width, H query heads, K key heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from posttrain.models.attention import Plan
from posttrain.models.fused.inference import rotated
from posttrain.models.fused.packed_weight import linear_back, linear_once
from posttrain.models.fused.parts import Layer, Norm, Parts, Projection
from posttrain.models.lora import LoraLinear


def fused_body(parts: Parts, tokens_N: Tensor, positions_N: Tensor, plan: Plan) -> Tensor:
    """Last hidden states (N, E) of one packed row."""
    x = parts.embed(tokens_N)
    cos, sin = (table[0][:, None] for table in parts.rotary(x[None], positions_N[None]))
    for i, layer in enumerate(parts.layers):
        x = x + attention(parts, i, layer, x, cos, sin, plan)
        x = x + project(layer.down, project(layer.gate_up, x, Normed(layer.before_mlp)), GATED)
    return norm(x, parts.last)


def attention(parts: Parts, index: int, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, plan: Plan) -> Tensor:
    heads, kv = parts.heads, parts.kv_heads
    qkv = project(layer.qkv, x, Normed(layer.before_attention)).view(len(x), heads + 2 * kv, parts.head_size)
    qk, v = qkv.split((heads + kv, kv), 1)
    if layer.query_norm is not None and layer.key_norm is not None:
        qk = torch.cat([norm(qk[:, :heads], layer.query_norm), norm(qk[:, heads:], layer.key_norm)], 1)
    rotated_qk: Tensor = Rotated.apply(qk, cos, sin)  # type: ignore[no-untyped-call]
    # v as a copy: a view of qkv, kept for the backward, would keep all of it
    q, k, v = (each.transpose(0, 1)[None] for each in (*rotated_qk.split((heads, kv), 1), v.contiguous()))
    seen = plan.attend(index, q, k, v, layer.scaling)
    return project(layer.out, seen.reshape(len(x), -1))


def norm(x: Tensor, settings: Norm) -> Tensor:
    result: Tensor = RmsNorm.apply(x, settings.weight, settings.epsilon)  # type: ignore[no-untyped-call]
    return result


class Before(Protocol):
    """What is done to a projection's input, cheap enough to do twice. `kept` is a statistic that saves some of it."""

    def trained(self) -> bool: ...

    def plain(self, u: Tensor) -> Tensor:
        """With autograd."""

    def run(self, u: Tensor) -> tuple[Tensor, Tensor | None]: ...

    def again(self, u: Tensor, kept: Tensor | None) -> Tensor: ...

    def back(self, g: Tensor, u: Tensor, kept: Tensor | None) -> Tensor:
        """The gradient of u from that of the output."""


@dataclass(frozen=True)
class Normed:
    """y = weight · u / rms(u) over the last dimension, statistics in fp32 (arXiv:1910.07467, equation 4)."""

    settings: Norm

    def trained(self) -> bool:
        return self.settings.weight.requires_grad

    def plain(self, u: Tensor) -> Tensor:
        return norm(u, self.settings)

    def run(self, u: Tensor) -> tuple[Tensor, Tensor]:
        scale = u.float().square().mean(-1, keepdim=True).add_(self.settings.epsilon).rsqrt_()
        return self.again(u, scale), scale

    def again(self, u: Tensor, kept: Tensor | None) -> Tensor:
        assert kept is not None
        return (u.float() * kept).to(u.dtype) * self.settings.weight

    def back(self, g: Tensor, u: Tensor, kept: Tensor | None) -> Tensor:
        assert kept is not None
        return norm_back(g, u, self.settings.weight, kept)


class Gated:
    """(N, 2M), gate beside up -> silu(gate) · up, (N, M)."""

    def trained(self) -> bool:
        return False

    def plain(self, u: Tensor) -> Tensor:
        result: Tensor = GatedSilu.apply(u)  # type: ignore[no-untyped-call]
        return result

    def run(self, u: Tensor) -> tuple[Tensor, None]:
        return self.again(u, None), None

    def again(self, u: Tensor, kept: Tensor | None) -> Tensor:
        gate, up = u.chunk(2, -1)
        return F.silu(gate).mul_(up)

    def back(self, g: Tensor, u: Tensor, kept: Tensor | None) -> Tensor:
        gate, up = u.chunk(2, -1)
        out = torch.empty_like(u)
        grad_gate, grad_up = out.chunk(2, -1)
        torch.mul(F.silu(gate), g, out=grad_up)
        torch.ops.aten.silu_backward.grad_input(g * up, gate, grad_input=grad_gate)
        return out


GATED = Gated()


def project(projection: Projection, u: Tensor, before: Before | None = None) -> Tensor:
    """Outputs of the projection's layers, side by side: (N, sum of their sizes)."""
    weights, bias = projection.weights, projection.bias
    if before is not None and before.trained():
        u, before = before.plain(u), None
    if any(weight.requires_grad for weight in weights):
        trained: Tensor = TrainedProjection.apply(u, before, bias, *weights)  # type: ignore[no-untyped-call]
        return trained
    active = [layer if isinstance(layer, LoraLinear) and layer.active else None for layer in projection.layers]
    adapters = [tensor for layer in active if layer is not None for tensor in (layer.lora_A, layer.lora_B)]
    result: Tensor = FrozenProjection.apply(u, before, weights, bias, active, *adapters)  # type: ignore[no-untyped-call]
    return result


class TrainedProjection(torch.autograd.Function):
    """y = x Wᵀ + b over the stacked layers; x is u, or what `before` makes of it. No stacked weight outlives its product."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, before: Before | None, bias: Tensor | None, *weights: Tensor) -> Tensor:
        x, kept = (u, None) if before is None else before.run(u)
        ctx.save_for_backward(u, kept, *weights)
        ctx.before = before
        return linear_once(x, weights, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        u, kept, *weights = ctx.saved_tensors
        g, before = grads[0], ctx.before
        x = u if before is None else before.again(u, kept)
        found = [
            part.T @ x if wanted else None
            for part, wanted in zip(g.split([len(w) for w in weights], -1), ctx.needs_input_grad[3:], strict=True)
        ]
        grad = None
        if ctx.needs_input_grad[0]:
            grad = linear_back(g, weights)
            grad = grad if before is None else before.back(grad, u, kept)
        return grad, None, g.sum(0) if ctx.needs_input_grad[2] else None, *found


class FrozenProjection(torch.autograd.Function):
    """y = x Wᵀ + b + Σ scaling · (x Aᵀ) Bᵀ over the stacked layers, W and b frozen; x is u, or what `before` makes of it. The
    adapters of all layers are one pair of products: their A stacked, their B on the diagonal of one matrix."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        before: Before | None,
        weights: Sequence[Tensor],
        bias: Tensor | None,
        layers: Sequence[LoraLinear | None],
        *adapters: Tensor,
    ) -> Tensor:
        x, kept = (u, None) if before is None else before.run(u)
        y = linear_once(x, weights, bias)
        low = None
        ctx.sizes = [len(weight) for weight in weights]
        if adapters:
            a, b = stacked_adapters(layers, ctx.sizes, adapters)
            low = x @ a.T
            y.addmm_(low, b.T)
        ctx.save_for_backward(u if adapters or before is not None else None, kept, low, *weights, *adapters)
        ctx.before, ctx.layers = before, layers
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        u, kept, low, *rest = ctx.saved_tensors
        weights, adapters = rest[: len(ctx.sizes)], rest[len(ctx.sizes) :]
        g, before = grads[0], ctx.before
        wanted = ctx.needs_input_grad[0]
        grad = linear_back(g, weights) if wanted else None
        found: list[Tensor] = []
        if adapters:
            a, b = stacked_adapters(ctx.layers, ctx.sizes, adapters)
            grad_low = g @ b
            if grad is not None:
                grad.addmm_(grad_low, a)
            x = u if before is None else before.again(u, kept)
            found = adapter_gradients(grad_low.T @ x, g.T @ low, ctx.layers, ctx.sizes)
        if grad is not None and before is not None:
            grad = before.back(grad, u, kept)
        return grad, None, None, None, None, *found


def adapter_gradients(grad_a: Tensor, grad_b: Tensor, layers: Sequence[LoraLinear | None], sizes: Sequence[int]) -> list[Tensor]:
    """A's and B's of each layer that has an adapter, out of those of the stacked ones."""
    found: list[Tensor] = []
    row = column = 0
    for layer, size in zip(layers, sizes, strict=True):
        if layer is not None:
            rank = len(layer.lora_A)
            found.append(grad_a[column : column + rank])
            found.append(grad_b[row : row + size, column : column + rank] * layer.scaling)
            column += rank
        row += size
    return found


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
    """The norm alone, its weight's gradient included where that is trained."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        y, scale = Normed(Norm(weight, epsilon)).run(x)
        ctx.save_for_backward(x, weight, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grads[0] * (x * scale)).flatten(0, -2).sum(0).to(weight.dtype)
        return norm_back(grads[0], x, weight, scale) if ctx.needs_input_grad[0] else None, grad_weight, None


def norm_back(grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    unit = x * scale  # fp32, as scale is
    g = grad.float() * weight if weight.dtype is torch.float32 else (grad * weight).float()
    along = (g * unit).mean(-1, keepdim=True)
    return g.sub_(unit.mul_(along)).mul_(scale).to(x.dtype)


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
    """The gate alone."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return GATED.again(gate_up, None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return GATED.back(grads[0], ctx.saved_tensors[0], None)
