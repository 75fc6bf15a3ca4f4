"""The fast path equals transformers' modules: outputs and gradients, for every architecture it knows."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from posttrain.core.config import LoraConfig
from posttrain.models import attention, fused
from posttrain.models.forward import packed_hidden
from posttrain.models.fused.packed_weight import can_pack, linear_back, linear_once, packed_weight
from posttrain.models.lora import adapters, add_lora, switched_off
from posttrain.models.packed_attention import Packed
from posttrain.models.packing import Batch, pack
from posttrain.models.view import InferenceView

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "llama with biases": LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "mistral": MistralConfig(**SHAPE, sliding_window=None, head_dim=16),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=16),
}


def made(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name]), dtype=dtype, attn_implementation=attention.NAME).eval()
    for parameter in model.parameters():  # biases and norms start at 0 and 1, where a forgotten one would not show
        torch.nn.init.normal_(parameter, std=0.2, mean=1.0 if parameter.dim() == 1 and "norm" in name else 0.0)
    return model


class Row:
    def __init__(self, tokens: list[int], start: int) -> None:
        self.tokens, self.mask = tokens, [0] * start + [1] * (len(tokens) - start)


def batch() -> Batch:
    draw = random.Random(1)
    prompt = [draw.randrange(97) for _ in range(12)]
    rows = [Row([*prompt, *(draw.randrange(97) for _ in range(n))], 12) for n in (5, 9)]
    return pack([*rows, Row([draw.randrange(97) for _ in range(20)], 3)])


def plain_hidden(model: PreTrainedModel, packed: Batch) -> Tensor:
    plan = Packed(packed.reach_N, "cpu")
    tokens, positions = packed.tokens_N[None], packed.positions_N[None]
    hidden: Tensor = model.get_decoder()(input_ids=tokens, position_ids=positions, use_cache=False, plan=plan).last_hidden_state[0]
    return hidden


def gradients(model: PreTrainedModel, hidden: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (hidden.float() * torch.linspace(-1, 1, hidden.numel()).view(hidden.shape)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def require_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys() and len(found) > 10
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-4 * float(value.abs().max())), name


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("lora", [True, False], ids=["adapters", "all weights"])
def test_outputs_and_gradients_are_the_modules(name: str, lora: bool) -> None:
    model = made(name)
    if lora:
        add_lora(model, LoraConfig(rank=4, alpha=6.0), seed=0)
        for layer in adapters(model).values():
            torch.nn.init.normal_(layer.lora_B, std=0.3)
    packed = batch()
    assert fused.parts_of(model) is not None
    fast, plain = packed_hidden(model, packed), plain_hidden(model, packed)
    assert torch.allclose(fast, plain, rtol=1e-4, atol=1e-4)
    require_equal(gradients(model, fast), gradients(model, plain))


def test_norms_may_be_trained_beside_adapters() -> None:
    """A norm with a gradient of its own is not computed inside the projection, whose adapters still count."""
    model = made("llama")
    add_lora(model, LoraConfig(rank=4, alpha=6.0), seed=0)
    for layer in adapters(model).values():
        torch.nn.init.normal_(layer.lora_B, std=0.3)
    norms = [parameter for name, parameter in model.named_parameters() if "layernorm" in name]
    for parameter in norms:
        parameter.requires_grad_(True)
    packed = batch()
    fast, plain = packed_hidden(model, packed), plain_hidden(model, packed)
    assert norms and torch.allclose(fast, plain, rtol=1e-4, atol=1e-4)
    require_equal(gradients(model, fast), gradients(model, plain))


def test_switched_off_adapters_are_off() -> None:
    model = made("llama")
    packed = batch()
    before = packed_hidden(model, packed).detach()
    add_lora(model, LoraConfig(rank=4), seed=0)
    for layer in adapters(model).values():
        torch.nn.init.normal_(layer.lora_B, std=0.3)
    assert not torch.allclose(packed_hidden(model, packed), before, atol=1e-2)
    with switched_off(model), torch.no_grad():
        assert torch.allclose(packed_hidden(model, packed), before, atol=1e-5)


def test_an_unknown_architecture_keeps_its_modules() -> None:
    model = made("llama")
    model.config.hidden_act = "gelu"
    assert fused.parts_of(model) is None and fused.FusedBody.of(model) is None
    packed = batch()
    assert torch.equal(packed_hidden(model, packed), plain_hidden(model, packed))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_sampler_sees_what_the_trainer_sees(name: str) -> None:
    """In bf16, where weights are packed: as near to the fp32 truth as the modules are."""
    truth = made(name)
    low = made(name, torch.bfloat16)
    packed = batch()
    plan = Packed(packed.reach_N, "cpu")
    view = InferenceView(low)
    with torch.inference_mode():
        expected = plain_hidden(truth, packed)
        fast = view.body(packed.tokens_N[None], packed.positions_N[None], plan)[0].float()
        slow = plain_hidden(low, packed).float()
    assert (fast - expected).abs().mean() < 1.3 * (slow - expected).abs().mean() + 1e-3


def test_packed_weights_follow_what_they_are_made_of() -> None:
    torch.manual_seed(0)
    weights = [torch.randn(n, 32, dtype=torch.bfloat16) for n in (16, 8)]
    x, g, more = (torch.randn(5, n, dtype=torch.bfloat16) for n in (32, 24, 24))
    known = packed_weight(weights)
    assert known is packed_weight(weights)
    stacked = torch.cat(weights).float()
    assert torch.allclose(known.linear(x).float(), x.float() @ stacked.T, rtol=2e-2, atol=5e-2)
    assert torch.allclose(known.linear(x, plus=more).float(), x.float() @ stacked.T + more.float(), rtol=2e-2, atol=6e-2)
    assert torch.equal(linear_once(x, weights), known.linear(x))
    assert torch.allclose(linear_back(g, weights).float(), g.float() @ stacked, rtol=2e-2, atol=5e-2)
    weights[1].zero_()
    assert not known.current(weights)
    again = packed_weight(weights)
    assert again is not known and (again.linear(x)[:, 16:] == 0).all()
    assert can_pack(weights[0]) or again.linear(x).shape == (5, 24)


def test_a_weight_changed_behind_the_samplers_back_is_stale() -> None:
    view = InferenceView(made("llama", torch.bfloat16))
    assert view.stale() == []
    with torch.no_grad():
        view.module.get_decoder().layers[1].mlp.up_proj.weight.mul_(2)
    assert view.stale() == ["layer 1"]
    view.refresh()
    assert view.stale() == []
