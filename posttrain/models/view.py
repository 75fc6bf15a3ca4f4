"""The model as the sampler sees it: plain modules with adapters folded in, sharing every tensor that has none.

Full training shares all weights, so there is nothing to refresh. With LoRA the folded weights are rewritten in place
after each optimizer step.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from posttrain.models.attention import Plan
from posttrain.models.fused import FusedBody
from posttrain.models.fused.packed_weight import PackedWeight, packed_weight
from posttrain.models.lora import LoraLinear, adapters


class InferenceView:
    """`module` has the policy's weights; `refresh` brings it up to date."""

    def __init__(self, policy: PreTrainedModel) -> None:
        self._policy_layers = adapters(policy)
        self.module = policy if not self._policy_layers else self._folded(policy)
        self._folded_weights = {name: self.module.get_parameter(f"{name}.weight") for name in self._policy_layers}
        self._body = FusedBody.of(self.module)
        self._head: PackedWeight | None = None
        self.refresh()

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
        if self._body is not None:
            self._body.refresh()
        self._head = packed_weight([self.module.lm_head.weight]) if self.module.lm_head.bias is None else None

    @torch.no_grad()
    def stale(self) -> list[str]:
        """Layers whose folded weight is not, bit for bit, what the policy's would fold to now, and packed weights that were
        made before the last change of what they are made of."""
        folded = [
            name for name, layer in self._policy_layers.items() if not torch.equal(self._folded_weights[name], layer.merged())
        ]
        head = self._head is None or self._head.current([self.module.lm_head.weight])
        return folded + (self._body.stale() if self._body is not None else []) + ([] if head else ["lm_head"])

    @property
    def fused(self) -> bool:
        """Whether the body is our own, whose every step is the same calls on tensors."""
        return self._body is not None

    def addresses(self) -> tuple[int, ...]:
        """Where the tensors lie that `body` and `logits` read. They are written in place, so this stays the same."""
        made = self._body.biases() if self._body is not None else []
        return tuple(tensor.data_ptr() for tensor in (*self.module.parameters(), *self.module.buffers(), *made))

    def body(self, tokens_BT: Tensor, positions_BT: Tensor, plan: Plan) -> Tensor:
        """Last hidden states (B, T, E)."""
        if self._body is not None:
            return self._body(tokens_BT, positions_BT, plan)
        output = self.module.get_decoder()(input_ids=tokens_BT, position_ids=positions_BT, use_cache=False, plan=plan)
        return cast(Tensor, output.last_hidden_state)

    def logits(self, hidden_BE: Tensor) -> Tensor:
        if self._head is not None:
            return self._head.linear(hidden_BE)
        return cast(Tensor, self.module.lm_head(hidden_BE))
