"""Settings of the stage that makes one model of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from posttrain.core.config.base import AdapterReference, ModelReference, Role, StageSettings, listed
from posttrain.core.config.checks import STRICT, positive


@dataclass(frozen=True, kw_only=True)
class AverageConfig(StageSettings):
    """Average the weights of several models of one parent, or merge several adapters of one base. Trains nothing."""

    kind: ClassVar[str] = "average"
    roles: ClassVar[tuple[Role, ...]] = ("model", "adapter")

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    models: Sequence[ModelReference] = ()
    """The models to average; `base` may be one of them. Not together with `adapters`."""
    adapters: Sequence[AdapterReference] = ()
    """The adapters to merge: ids of stages that trained with LoRA, or directories."""
    model: ModelReference | None = None
    """The base that all of `adapters` were trained on."""
    weights: Sequence[float] = ()
    """One weight for each model or adapter; none weighs all alike."""
    normalise: bool = True
    """Divide the weights by their sum. False adds adapters up with their weights as they are (arXiv:2212.04089)."""

    def __post_init__(self) -> None:
        parts = [*self.models, *self.adapters]
        if self.models and self.adapters:
            raise ValueError("models and adapters are both given; expected one of them")
        if not parts:
            raise ValueError("models is empty; expected at least two models, or adapters")
        if len(self.models) == 1:
            raise ValueError(f"models names only {self.models[0]}; expected at least two")
        if self.adapters and self.model is None:
            raise ValueError("adapters need model: the base they were trained on")
        if self.models and self.model is not None:
            raise ValueError("model is the base of adapters; expected only models to average")
        if self.model in self.adapters:
            raise ValueError(f"model is {self.model!r}, which is also one of adapters; expected what they were trained on")
        if len(set(parts)) < len(parts):
            raise ValueError(f"one of {parts} is named twice; give it a larger weight instead")
        if self.weights and len(self.weights) != len(parts):
            raise ValueError(f"weights has {len(self.weights)} numbers for {len(parts)} parts; expected one each")
        for weight in self.weights:
            positive(weights=weight)
        if self.models and not self.normalise:
            raise ValueError("normalise is false, but models are averaged; expected true, or adapters to add up")

    def shares(self) -> list[float]:
        """The factor of each model or adapter."""
        given = list(self.weights) or [1.0] * len(self.models or self.adapters)
        return [weight / math.fsum(given) for weight in given] if self.normalise else given

    def parent(self) -> str:
        return self.model or self.models[0]

    def writes(self) -> frozenset[Role]:
        return frozenset(self.roles) if self.adapters else frozenset({"model"})

    def plan(self) -> str:
        shares = ", ".join(f"{share:.2g}" for share in self.shares())
        if self.adapters:
            return f"merge adapters {listed(self.adapters)} into {self.model}, weights {shares}"
        return f"average {listed(self.models)}, weights {shares}"
