"""AdamW in fp32 over a model that computes in bf16.

The optimizer owns fp32 masters of the trained weights. Gradients move into fp32 the moment autograd has made them, so
accumulating micro-batches loses nothing and no bf16 gradient outlives its layer. A step that is not finite is refused
before anything changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from posttrain.core.config import TrainConfig
from posttrain.core.faults import fault

_hooks = WeakIdKeyDictionary()
"""By parameter, what moves its gradient away: it belongs to one optimizer, the last that was made for it. A script may train the
same model by one method after another."""


class NonFinite(Exception):
    """The gradient norm is NaN or infinite: the step was not taken."""

    def __init__(self, grad_norm: float) -> None:
        super().__init__(f"the gradient norm is {grad_norm}")
        self.grad_norm = grad_norm


class MasterAdamW:
    """Masters, moments and accumulated gradients of the trained parameters, by name."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: TrainConfig) -> None:
        self.parameters = dict(parameters)
        self.masters = {name: p.detach().float().clone() for name, p in self.parameters.items()}
        decayed = [m for m in self.masters.values() if m.ndim >= 2]
        rest = [m for m in self.masters.values() if m.ndim < 2]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True
        )
        for name, parameter in self.parameters.items():
            if (earlier := _hooks.get(parameter)) is not None:
                earlier.remove()
            _hooks[parameter] = parameter.register_post_accumulate_grad_hook(self._accumulate(self.masters[name]))

    @staticmethod
    def _accumulate(master: Tensor) -> Any:
        def move(parameter: Tensor) -> None:
            assert parameter.grad is not None
            if master.grad is None:
                master.grad = parameter.grad.float() if parameter.grad.dtype != torch.float32 else parameter.grad.clone()
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

        return move

    def norm(self) -> float:
        """The accumulated gradients' global norm. Where it is not finite, drops them and raises NonFinite."""
        gradients = [m.grad for m in self.masters.values() if m.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))) if gradients else 0.0
        if fault("step:gradient"):
            norm = math.nan
        if not math.isfinite(norm):
            self.zero_grad()
            raise NonFinite(norm)
        return norm

    def step(self, learning_rate: float, max_norm: float) -> float:
        """Clip, update the masters, round them into the model. Returns the norm before clipping; raises NonFinite."""
        norm = self.norm()
        if norm > max_norm:
            torch._foreach_mul_([m.grad for m in self.masters.values() if m.grad is not None], max_norm / norm)
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.adamw.step()
        self.zero_grad()
        self.write_back()
        return norm

    def zero_grad(self) -> None:
        for master in self.masters.values():
            master.grad = None

    @torch.no_grad()
    def write_back(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(self.masters[name])

    def state(self) -> dict[str, Tensor]:
        """All tensors a resumed run needs, by `<kind>/<parameter>`."""
        tensors = {}
        for name, master in self.masters.items():
            tensors[f"master/{name}"] = master
            for key, value in self.adamw.state.get(master, {}).items():
                tensors[f"{key}/{name}"] = value
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Raises KeyError or RuntimeError if it belongs to another model."""
        for name, master in self.masters.items():
            master.copy_(tensors[f"master/{name}"])
            kinds = [kind for kind in ("step", "exp_avg", "exp_avg_sq") if f"{kind}/{name}" in tensors]
            if kinds:
                self.adamw.state[master] = {kind: tensors[f"{kind}/{name}"].clone() for kind in kinds}
        self.write_back()
