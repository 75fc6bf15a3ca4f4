"""Settings of the stage that trains a reward model on preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from posttrain.core.config.base import Role, listed
from posttrain.core.config.checks import not_negative, positive
from posttrain.core.config.data import PreferenceSource
from posttrain.core.config.training import TrainConfig


@dataclass(frozen=True, kw_only=True)
class RewardModelConfig(TrainConfig):
    """Learn from preferences to score answers: a scalar head on a language model, or an ensemble of them."""

    kind: ClassVar[str] = "reward_model"
    roles: ClassVar[tuple[Role, ...]] = ("reward_model",)

    data: Sequence[PreferenceSource]
    """Sources of preferences, mixed by weight."""
    learning_rate: float = 1e-4
    """Peak learning rate."""
    epochs: float = 1.0
    """Passes over the data; ignored if `steps` is set. Reward models overfit after one."""
    steps: int | None = None
    """Optimizer steps; none means what `epochs` says."""
    batch_size: int = 16
    """Prompts in one optimizer step, each with all its answers and pairs as one element."""
    max_length: int = 1024
    """Tokens of the longest conversation; longer answers are left out with their pairs and counted."""
    margin: float = 0.0
    """Factor of the pairs' own margins, by which the better reward must exceed the other (Llama 2); 0 leaves them out."""
    label_smoothing: float = 0.0
    """Share of labels taken to be wrong."""
    centring: float = 0.01
    """Coefficient of the term that holds rewards near 0; 0 switches it off."""
    members: int = 1
    """Size of the ensemble."""
    ensemble: Literal["adapters", "heads"] = "adapters"
    """What members have of their own: adapters and a head each, or only a head each on one body (cheaper, more alike)."""
    validation: float = 0.1
    """Share of the prompts held out, with all their answers, to measure the reward model on."""
    validate_every: int = 25
    """Optimizer steps between measurements on the held-out pairs."""
    decontaminate: bool = True
    """Fail if preferences share long n-grams with any evaluation set of the recipe."""

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        if not self.data:
            raise ValueError("data is empty; expected at least one source")
        positive(
            epochs=self.epochs,
            batch_size=self.batch_size,
            max_length=self.max_length,
            members=self.members,
            validate_every=self.validate_every,
        )
        not_negative(margin=self.margin, label_smoothing=self.label_smoothing, centring=self.centring, validation=self.validation)
        if self.steps is not None:
            positive(steps=self.steps)
        if self.label_smoothing >= 0.5:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; expected less than 0.5, or labels say nothing")
        if self.validation >= 1:
            raise ValueError(f"validation is {self.validation}; expected a share of the prompts below 1")
        if self.members > 1 and self.ensemble == "adapters" and self.lora is None:
            raise ValueError("ensemble is 'adapters', which needs lora; expected lora settings, or ensemble: heads")

    def plan(self) -> str:
        much = f"{self.steps} steps" if self.steps else f"{self.epochs:g} epoch(s)"
        members = f", {self.members} members ({self.ensemble})" if self.members > 1 else ""
        sources = listed([source.source for source in self.data])
        return f"train a reward model from {self.model} on {sources}: {much} of {self.batch_size} prompts{members}"
