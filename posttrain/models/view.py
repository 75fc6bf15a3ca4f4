"""The model as the sampler sees it: plain modules with adapters folded in, sharing every tensor that has none.

Full training shares all weights, so there is nothing to refresh. With LoRA the folded weights are rewritten in place
after each optimizer step.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from posttrain.models.lora import LoraLinear, adapters


class InferenceView:
    """`module` has the policy's weights; `refresh` brings it up to date."""

    def __init__(self, policy: PreTrainedModel) -> None:
        self._policy_layers = adapters(policy)
        self.module = policy if not self._policy_layers else self._folded(policy)
        self._folded_weights = {name: self.module.get_parameter(f"{name}.weight") for name in self._policy_layers}

    def _folded(self, policy: PreTrainedModel) -> PreTrainedModel:
        shared: list[object] = [
            p for name, p in policy.named_parameters() if not any(name.startswith(f"{layer}.") for layer in self._policy_layers)
        ]
        plain = copy.deepcopy(policy, {id(tensor): tensor for tensor in shared})
        for name in self._policy_layers:
            parent, _, leaf = name.rpartition(".")
            layer: LoraLinear = plain.get_submodule(name)  # type: ignore[assignment]
            linear = layer.base
            linear.weight = nn.Parameter(layer.merged(), requires_grad=False)
            setattr(plain.get_submodule(parent), leaf, linear)
        plain.eval()
        return plain

    @torch.no_grad()
    def refresh(self) -> None:
        for name, layer in self._policy_layers.items():
            self._folded_weights[name].copy_(layer.merged())

    @torch.no_grad()
    def stale(self) -> list[str]:
        """Layers whose folded weight is not, bit for bit, what the policy's would fold to now."""
        return [name for name, layer in self._policy_layers.items() if not torch.equal(self._folded_weights[name], layer.merged())]
