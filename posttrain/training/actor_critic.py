"""A policy and its critic, which move together: both take a step, or neither does.

The critic is a body with one number per token on top: the value of the state before that token is written. Its body shares
the policy's frozen weights and has an adapter of its own, or is a model of its own; in no case does the value loss move the
policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from posttrain.core.config import PpoConfig
from posttrain.models.heads import ScalarHead, hidden_states
from posttrain.models.packing import Batch
from posttrain.training.optimizer import MasterAdamW, NonFinite
from posttrain.training.policy import Policy
from posttrain.training.schedule import learning_rate


class Critic:
    """Values of states, with an optimizer and a learning rate of its own. A fresh head is zero: it promises nothing."""

    def __init__(self, body: PreTrainedModel, config: PpoConfig, *, total_steps: int, head: ScalarHead | None = None) -> None:
        self.body, self.total_steps = body, total_steps
        self.head = (head or ScalarHead(body.config.hidden_size, seed=0, zeros=True)).to(body.device).requires_grad_(True)
        self.config = replace(config, learning_rate=config.critic_learning_rate)
        trained = {f"body.{name}": p for name, p in body.named_parameters() if p.requires_grad}
        self.optimizer = MasterAdamW({**trained, "head.weight": self.head.weight}, self.config)

    def values(self, batch: Batch) -> Tensor:
        """One value per position in `batch.source_L`, in fp32. Differentiable unless under no_grad."""
        values_L1: Tensor = self.head(hidden_states(self.body, batch))
        return values_L1[:, 0]


class ActorCritic:
    """What PPO trains. `version` counts optimizer steps, which both have taken."""

    def __init__(self, policy: Policy, critic: Critic) -> None:
        self.policy, self.critic, self.version = policy, critic, policy.version

    def step(self) -> dict[str, float]:
        """Both optimizer steps for the gradients accumulated by backward. Raises NonFinite before anything changed."""
        try:
            self.critic.optimizer.norm()  # asked before the policy moves
            metrics = self.policy.step()
        except NonFinite:
            self.zero_grad()
            raise
        rate = learning_rate(self.critic.config, self.version, self.critic.total_steps)
        norm = self.critic.optimizer.step(rate, self.critic.config.max_grad_norm)
        self.version += 1
        return {**metrics, "grad_norm/critic": norm, "learning_rate/critic": rate}

    def zero_grad(self) -> None:
        self.policy.optimizer.zero_grad()
        self.critic.optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        parts = {"policy": self.policy.state(), "critic": self.critic.optimizer.state()}
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor], version: int) -> None:
        self.policy.load_state(_of("policy", tensors), version)
        self.critic.optimizer.load(_of("critic", tensors))
        self.version = version


def _of(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{part}/")}
