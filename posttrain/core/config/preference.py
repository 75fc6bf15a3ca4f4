"""Settings of the stages that make preferences and learn from them by DPO and its relatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from posttrain.core.config.base import ModelReference, Role, StageSettings, listed
from posttrain.core.config.checks import STRICT, not_negative, positive, share
from posttrain.core.config.data import PreferenceSource, TaskSource
from posttrain.core.config.graders import GraderConfig
from posttrain.core.config.stages import SamplingConfig
from posttrain.core.config.training import RolloutConfig, TrainConfig

PairLossName = Literal["dpo", "dpo_norm", "ipo", "cdpo", "robust", "simpo", "orpo", "kto"]

READ_BY: dict[str, tuple[str, ...]] = {
    "label_smoothing": ("cdpo", "robust"),
    "gamma": ("simpo",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
}
"""Settings that only some losses read; with another loss they are refused."""


@dataclass(frozen=True, kw_only=True)
class PreferencesConfig(StageSettings):
    """Make preferences from a model's own answers: sample K a task, score them by graders (the gold), pair good with bad."""

    kind: ClassVar[str] = "preferences"
    roles: ClassVar[tuple[Role, ...]] = ("preferences",)

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    tasks: Sequence[TaskSource]
    """Sources of tasks."""
    graders: Sequence[GraderConfig]
    """The gold: what decides which answer is better."""
    model: ModelReference = "base"
    """The model that answers."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(samples=8, temperature=1.0))
    """How answers are drawn."""
    better: Literal["sample", "reference"] = "sample"
    """Where the better answer comes from: `sample` takes the model's own; `reference` takes the task's known answer
    (`metadata.gold`, else `answer`, word for word) and prefers it to the model's answers that do not pass."""
    pairing: Literal["best_worst", "all"] = "best_worst"
    """Which answers of a task are paired: the best with the worst, or every two that differ in score."""
    margin: float = 0.0
    """Smallest difference in score that makes a pair; any difference if 0."""
    finished: bool = True
    """The better answer of a pair was not cut off by the length limit: cut off, it would teach to end there."""
    label_noise: float = 0.0
    """Probability with which a pair is turned round, to study what wrong labels do."""
    seed: int = 0
    """Other samples and other wrong labels with everything else the same."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks is empty; expected at least one source")
        if not self.graders:
            raise ValueError("graders is empty; expected at least one grader, such as math")
        if self.better == "sample" and self.sampling.samples < 2:
            raise ValueError(f"sampling.samples is {self.sampling.samples}; comparing answers needs at least 2")
        not_negative(margin=self.margin)
        if self.better == "reference" and self.margin:
            raise ValueError(f"margin is {self.margin}; a known answer has no score to compare, expected 0")
        share(label_noise=self.label_noise)

    def plan(self) -> str:
        count = sum(source.count for source in self.tasks)
        how = "known answers preferred to the wrong of" if self.better == "reference" else f"pairs ({self.pairing}) of"
        return f"{how} {self.sampling.samples} answers of {self.model} to each of {count} tasks"


@dataclass(frozen=True, kw_only=True)
class PairLoss:
    """The loss of DPO and its relatives (algorithms/preference.py)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    loss: PairLossName = "dpo"
    """Which loss. `simpo` and `orpo` need no reference; `kto` takes single answers that are desirable or not, or pairs apart."""
    beta: float | None = None
    """Strength of the pull towards the reference, as the loss's paper defines it (IPO's τ, ORPO's λ); none takes the loss's
    own: 0.1, dpo_norm 5, simpo 2."""
    label_smoothing: float | None = None
    """Share of labels that cdpo and robust take to be wrong; none takes 0.1."""
    gamma: float | None = None
    """SimPO's target margin, per token and after beta; none takes 1."""
    desirable_weight: float | None = None
    """KTO's weight of desirable answers; none takes 1."""
    undesirable_weight: float | None = None
    """KTO's weight of undesirable answers; none takes 1."""
    nll: float | None = None
    """Weight of the chosen answers' negative log-likelihood per token (Llama 3: 0.2); none takes the loss's: orpo 1, others 0."""
    mask_formatting: bool = False
    """Leave end-of-turn tokens out of both answers' log-probabilities (Llama 3): chosen and rejected share them, and pulling
    at them from both sides makes answers that do not end."""

    def __post_init__(self) -> None:
        for name, losses in READ_BY.items():
            if getattr(self, name) is not None and self.loss not in losses:
                raise ValueError(f"{name} is {getattr(self, name)}, which only {' and '.join(losses)} read, not {self.loss}")
        if self.beta is not None:
            positive(beta=self.beta)
        if self.label_smoothing is not None and not 0 < self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; expected a number above 0 and below 0.5")
        given = {name: getattr(self, name) for name in ("gamma", "desirable_weight", "undesirable_weight", "nll")}
        not_negative(**{name: value for name, value in given.items() if value is not None})
        if self.nll and self.loss == "kto":
            raise ValueError(f"nll is {self.nll}; kto has no chosen answers to add it to, expected none")


@dataclass(frozen=True, kw_only=True)
class DpoConfig(PairLoss, TrainConfig):
    """Learn from preferences directly, without a reward model: DPO and its relatives on pairs that are there already."""

    kind: ClassVar[str] = "dpo"

    data: Sequence[PreferenceSource]
    """Sources of preferences, mixed by weight."""
    learning_rate: float = 5e-5
    """Peak learning rate."""
    epochs: float = 1.0
    """Passes over the preferences; ignored if `steps` is set."""
    steps: int | None = None
    """Optimizer steps; none means what `epochs` says."""
    batch_size: int = 16
    """Preferences (prompts with all their compared answers) in one optimizer step."""
    max_length: int = 1024
    """Tokens of the longest conversation; longer answers are left out with their pairs and counted."""
    validation: float = 0.0
    """Share of the prompts held out, with all their answers, to measure loss and accuracy on."""
    validate_every: int = 25
    """Optimizer steps between measurements on the held-out preferences."""
    decontaminate: bool = True
    """Fail if a preference shares long n-grams with any evaluation set of the recipe."""

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        PairLoss.__post_init__(self)
        if not self.data:
            raise ValueError("data is empty; expected at least one source")
        positive(epochs=self.epochs, batch_size=self.batch_size, max_length=self.max_length, validate_every=self.validate_every)
        not_negative(validation=self.validation)
        if self.validation >= 1:
            raise ValueError(f"validation is {self.validation}; expected a share of the prompts below 1")
        if self.steps is not None:
            positive(steps=self.steps)
        if self.loss == "kto" and self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}; kto estimates its KL over the batch and needs at least 2")

    def plan(self) -> str:
        much = f"{self.steps} steps" if self.steps else f"{self.epochs:g} epoch(s)"
        sources = listed([source.source for source in self.data])
        return f"train {self.model} by {self.loss} on {sources}: {much} of {self.batch_size} preferences"


@dataclass(frozen=True, kw_only=True)
class OnlineDpoConfig(PairLoss, RolloutConfig):
    """DPO on pairs of the current policy's own answers (arXiv:2402.04792, arXiv:2405.07863): each step samples, grades,
    pairs and learns, against the model the stage starts from."""

    kind: ClassVar[str] = "online_dpo"

    learning_rate: float = 5e-5
    """Peak learning rate."""
    pairing: Literal["best_worst", "all"] = "best_worst"
    """Which answers of a task are paired: the best with the worst, or every two that differ in score."""
    margin: float = 0.0
    """Smallest difference in score that makes a pair; any difference if 0."""

    def __post_init__(self) -> None:
        RolloutConfig.__post_init__(self)
        PairLoss.__post_init__(self)
        not_negative(margin=self.margin)
        if self.samples_per_prompt < 2:
            raise ValueError(f"samples_per_prompt is {self.samples_per_prompt}; a pair needs at least 2")
        if self.loss == "kto" and self.prompts_per_step < 2:
            raise ValueError(
                f"prompts_per_step is {self.prompts_per_step}; kto estimates its KL over the batch and needs at least 2"
            )

    def plan(self) -> str:
        much = f"{self.steps} steps of {self.prompts_per_step} x {self.samples_per_prompt}"
        return f"train {self.model} by online {self.loss} on {listed([source.source for source in self.tasks])}: {much}"
