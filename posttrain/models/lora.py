"""Low-rank adapters (arXiv:2106.09685) on linear layers, in PEFT's layout on disk.

y = x Wᵀ + (alpha / rank) · (x Aᵀ) Bᵀ with W frozen. B starts at 0, so a fresh adapter changes nothing. A and B are kept in
the model's own precision (masters live in the optimizer), so the forward casts nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from posttrain.core.config import LoraConfig
from posttrain.core.errors import UserError


class LoraLinear(nn.Module):
    """A frozen linear layer with a low-rank update that can be switched off."""

    def __init__(self, base: nn.Linear, rank: int, scaling: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.scaling, self.active = base, scaling, True
        bound = 1 / math.sqrt(base.in_features)  # kaiming_uniform(a=√5), as PEFT starts A
        start = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(start.to(base.weight))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank).to(base.weight))
        base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        if not self.active:
            return y
        low = F.linear(x, self.lora_A)
        return torch.add(y, F.linear(low, self.lora_B), alpha=self.scaling)

    def merged(self) -> Tensor:
        """The weight with the update folded in: fp32 sum, rounded once."""
        update = self.lora_B.detach().float() @ self.lora_A.detach().float()
        weight: Tensor = self.base.weight.detach()
        return (weight.float() + self.scaling * update).to(weight.dtype)


def add_lora(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> list[str]:
    """Put an adapter on every linear layer of the body and freeze everything else. Returns the layers' names."""
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    body = model.get_decoder()
    prefix = next(name for name, module in model.named_modules() if module is body)
    names = [name for name, module in body.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise UserError(
            f"{model.config.model_type} has no plain linear layers to adapt.", fix="Set lora: null to train all weights."
        )
    for name in names:
        parent, _, leaf = name.rpartition(".")
        owner = body.get_submodule(parent)
        setattr(owner, leaf, LoraLinear(getattr(owner, leaf), config.rank, config.alpha / config.rank, generator))
    return [f"{prefix}.{name}" for name in names]


def adapters(model: nn.Module) -> dict[str, LoraLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


@contextlib.contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """The model as the stage found it: its own reference for KL."""
    layers = list(adapters(model).values())
    for layer in layers:
        layer.active = False
    try:
        yield
    finally:
        for layer in layers:
            layer.active = True


@torch.no_grad()
def fold(model: nn.Module) -> None:
    """Fold every adapter into its layer for good, in place: the parent of the next stage."""
    for name, layer in adapters(model).items():
        layer.base.weight.copy_(layer.merged())
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer.base)


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a plain model with every adapter folded in."""
    layers = adapters(model)
    state = {name: value.detach() for name, value in model.state_dict().items()}
    for name, layer in layers.items():
        state = {key: value for key, value in state.items() if not key.startswith((f"{name}.lora_", f"{name}.base.weight"))}
        state[f"{name}.weight"] = layer.merged()
        if f"{name}.base.bias" in state:
            state[f"{name}.bias"] = state.pop(f"{name}.base.bias")
    return state


def save_adapter(model: PreTrainedModel, folder: Path, *, base: str) -> None:
    """Write adapter_model.safetensors and adapter_config.json as PEFT does. `base` is a path relative to `folder` or a name."""
    layers = adapters(model)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, layer in layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = layer.lora_A.detach().float().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = layer.lora_B.detach().float().contiguous()
    first = next(iter(layers.values()))
    rank = first.lora_A.shape[0]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": first.scaling * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.rpartition(".")[2] for name in layers}),
        "modules_to_save": None,
        "inference_mode": True,
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
