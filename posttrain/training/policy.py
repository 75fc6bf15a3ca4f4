"""The model being trained: weights, adapters, optimizer, and the frozen reference it started from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedModel

from posttrain.core.config import TrainConfig
from posttrain.core.seeds import derive
from posttrain.models import lora
from posttrain.models.forward import Scored, score
from posttrain.models.load import Loaded
from posttrain.models.packing import Batch
from posttrain.models.view import InferenceView
from posttrain.training.optimizer import MasterAdamW
from posttrain.training.schedule import learning_rate


class Policy:
    """`version` counts optimizer steps; what the sampler wrote carries the version it was written with.

    `reference` keeps a second copy of the weights if all of them are trained; with LoRA the adapter is switched off instead.
    """

    def __init__(self, loaded: Loaded, config: TrainConfig, *, total_steps: int, seed: int, reference: bool = False) -> None:
        torch.manual_seed(derive(seed, "torch"))  # for models that draw random numbers of their own, such as dropout
        self.model: PreTrainedModel = loaded.model
        self.tokenizer = loaded.tokenizer
        self.config, self.total_steps, self.version = config, total_steps, 0
        self._frozen: PreTrainedModel | None = None
        if config.lora is not None:
            lora.add_lora(self.model, config.lora, seed=derive(seed, "lora"))
        else:
            self._frozen = copy.deepcopy(self.model).requires_grad_(False) if reference else None
            self.model.requires_grad_(True)
        self.optimizer = MasterAdamW({name: p for name, p in self.model.named_parameters() if p.requires_grad}, config)
        self.device = self.model.device

    @cached_property
    def view(self) -> InferenceView:
        """The weights as the sampler reads them. Made when first asked for: with LoRA it is another copy of the adapted layers,
        and only methods that sample need one."""
        return InferenceView(self.model)

    def score(self, batch: Batch, *, temperature: float = 1.0) -> Scored:
        return score(self.model, batch, temperature=temperature)

    @torch.no_grad()
    def reference_logprobs(self, batch: Batch, *, temperature: float = 1.0) -> Tensor:
        """Log-probabilities under the model the stage started from."""
        if self._frozen is not None:
            return score(self._frozen, batch, temperature=temperature).logprobs_L
        if self.config.lora is None:
            raise ValueError("the policy was built without a reference")
        with lora.switched_off(self.model):
            return score(self.model, batch, temperature=temperature).logprobs_L

    def step(self) -> dict[str, float]:
        """Take the optimizer step for the gradients accumulated by backward. Raises NonFinite before anything changed."""
        rate = learning_rate(self.config, self.version, self.total_steps)
        norm = self.optimizer.step(rate, self.config.max_grad_norm)
        self.version += 1
        return {"grad_norm": norm, "learning_rate": rate}

    def state(self) -> dict[str, Tensor]:
        return {**self.optimizer.state(), "random/torch": torch.random.get_rng_state()}

    def load_state(self, tensors: Mapping[str, Tensor], version: int) -> None:
        self.optimizer.load(tensors)
        torch.random.set_rng_state(tensors["random/torch"])
        self.version = version
        if "view" in self.__dict__:
            self.view.refresh()
