"""A Llama-shaped decoder taken apart: its layers' projections and norms, found in transformers' modules.

Known: Llama, Mistral, Qwen2 and Qwen3 decoder layers as transformers builds them, with silu, without dropout. Anything
else gives None and keeps the modules' own path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from posttrain.models.lora import LoraLinear

LAYERS = (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer, Qwen3DecoderLayer)


@dataclass(frozen=True)
class Projection:
    """Linear layers that take the same input; their outputs stand side by side."""

    layers: tuple[nn.Linear | LoraLinear, ...]

    @property
    def linears(self) -> list[nn.Linear]:
        return [layer.base if isinstance(layer, LoraLinear) else layer for layer in self.layers]

    @property
    def weights(self) -> list[Tensor]:
        return [linear.weight for linear in self.linears]

    @property
    def bias(self) -> Tensor | None:
        """The stacked bias; layers without one add nothing. None if none has any."""
        found = [linear.bias for linear in self.linears]
        if all(bias is None for bias in found):
            return None
        rows = zip(found, self.weights, strict=True)
        return torch.cat([weight.new_zeros(len(weight)) if bias is None else bias for bias, weight in rows])


@dataclass(frozen=True)
class Norm:
    weight: Tensor
    epsilon: float


@dataclass(frozen=True)
class Layer:
    before_attention: Norm
    qkv: Projection
    query_norm: Norm | None
    key_norm: Norm | None
    out: Projection
    before_mlp: Norm
    gate_up: Projection
    down: Projection
    scaling: float


@dataclass(frozen=True)
class Parts:
    """Letters: H query heads, K key heads, D head size."""

    embed: nn.Module
    rotary: nn.Module
    layers: Sequence[Layer]
    last: Norm
    heads: int
    kv_heads: int
    head_size: int


def parts_of(model: PreTrainedModel) -> Parts | None:
    """The parts of a model's body, or None where it is not of a known shape."""
    body = model.get_decoder()
    layers = list(getattr(body, "layers", ()))
    config = model.config.get_text_config()
    plain = getattr(config, "hidden_act", None) == "silu" and not getattr(config, "attention_dropout", 0.0)
    if not layers or not plain or any(type(layer) not in LAYERS for layer in layers):
        return None
    attention = layers[0].self_attn
    heads = config.num_attention_heads
    return Parts(
        body.embed_tokens,
        body.rotary_emb,
        [layer_of(layer) for layer in layers],
        norm_of(body.norm),
        heads,
        heads // attention.num_key_value_groups,
        attention.head_dim,
    )


def layer_of(layer: nn.Module) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        norm_of(layer.input_layernorm),
        Projection((attention.q_proj, attention.k_proj, attention.v_proj)),  # type: ignore[union-attr,arg-type]
        norm_of(attention.q_norm) if hasattr(attention, "q_norm") else None,
        norm_of(attention.k_norm) if hasattr(attention, "k_norm") else None,
        Projection((attention.o_proj,)),  # type: ignore[union-attr,arg-type]
        norm_of(layer.post_attention_layernorm),
        Projection((mlp.gate_proj, mlp.up_proj)),  # type: ignore[union-attr,arg-type]
        Projection((mlp.down_proj,)),  # type: ignore[union-attr,arg-type]
        float(attention.scaling),  # type: ignore[union-attr,arg-type]
    )


def norm_of(module: object) -> Norm:
    return Norm(module.weight, float(module.variance_epsilon))  # type: ignore[attr-defined]
