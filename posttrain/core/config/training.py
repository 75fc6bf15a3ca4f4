"""Settings of the stages that change weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from posttrain.core.config.base import ModelReference, Role, StageSettings, listed
from posttrain.core.config.checks import STRICT, not_negative, positive, share
from posttrain.core.config.data import DataSource, TaskSource
from posttrain.core.config.environments import EnvironmentConfig, require_reward
from posttrain.core.config.graders import GraderConfig


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters on every linear layer of the body: what vLLM loads as it is (no bias, no saved modules)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    rank: int = 16
    """Rank of the update. vLLM's default limit is 16; a higher rank is refused unless `allow_high_rank`."""
    alpha: float = 32.0
    """The update is scaled by alpha / rank."""
    allow_high_rank: bool = False
    """Accept a rank above 16, which a vLLM server must be told about (`--max-lora-rank`)."""

    def __post_init__(self) -> None:
        positive(rank=self.rank, alpha=self.alpha)
        if self.rank > 16 and not self.allow_high_rank:
            raise ValueError(
                f"rank is {self.rank}; vLLM loads adapters up to rank 16 by default (allow_high_rank: true to keep it)"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(StageSettings):
    """What every training stage shares."""

    roles: ClassVar[tuple[Role, ...]] = ("model", "adapter")

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    model: ModelReference = "base"
    """The model to start from: `base`, an earlier stage's id, `run:<name>/<stage>`, a directory, a hub id or a known name."""
    lora: LoraConfig | None = LoraConfig()
    """Adapter settings; `null` trains all weights."""
    learning_rate: float = 1e-5
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Shape of the learning rate after warm-up; linear and cosine end at 0."""
    warmup_steps: int = 0
    """Optimizer steps of linear warm-up."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW), on matrices only."""
    beta1: float = 0.9
    """Decay of AdamW's first moment."""
    beta2: float = 0.95
    """Decay of AdamW's second moment."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm."""
    micro_batch_tokens: int = 2048
    """Packed tokens in one forward and backward. Changes memory and speed, never the result."""
    checkpoint_every: int = 50
    """Optimizer steps between checkpoints."""
    keep_checkpoints: int = 1
    """How many checkpoints to keep; older ones go once a newer one is complete."""

    def __post_init__(self) -> None:
        positive(
            learning_rate=self.learning_rate,
            max_grad_norm=self.max_grad_norm,
            micro_batch_tokens=self.micro_batch_tokens,
            checkpoint_every=self.checkpoint_every,
            keep_checkpoints=self.keep_checkpoints,
        )
        not_negative(warmup_steps=self.warmup_steps, weight_decay=self.weight_decay)
        share(beta1=self.beta1, beta2=self.beta2)

    def writes(self) -> frozenset[Role]:
        return frozenset(self.roles) - (frozenset({"adapter"}) if self.lora is None else frozenset())


@dataclass(frozen=True, kw_only=True)
class SftConfig(TrainConfig):
    """Supervised fine-tuning: imitate the assistant turns of the data."""

    kind: ClassVar[str] = "sft"
    meaning: ClassVar[int] = 2

    data: Sequence[DataSource]
    """Sources of training rows, mixed by weight."""
    learning_rate: float = 2e-4
    """Peak learning rate."""
    epochs: float = 1.0
    """Passes over the data; ignored if `steps` is set."""
    steps: int | None = None
    """Optimizer steps; none means what `epochs` says."""
    batch_size: int = 16
    """Rows in one optimizer step."""
    max_length: int = 1024
    """Tokens of the longest row; longer ones are cut at the end and counted."""
    validation: int = 0
    """Rows held out of training to measure the loss on."""
    validate_every: int = 25
    """Optimizer steps between validation losses, where rows are held out."""
    dedup: bool = True
    """Drop exact duplicates."""
    near_duplicates: float | None = None
    """Drop rows whose word 5-grams overlap an earlier row's by this much or more (Jaccard similarity, such as 0.8); none keeps
    them. Rows made from one template overlap by design."""
    decontaminate: bool = True
    """Fail if training rows share long n-grams with any evaluation set of the recipe."""

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        if not self.data:
            raise ValueError("data is empty; expected at least one source")
        positive(epochs=self.epochs, batch_size=self.batch_size, max_length=self.max_length, validate_every=self.validate_every)
        not_negative(validation=self.validation)
        if self.steps is not None:
            positive(steps=self.steps)
        if self.near_duplicates is not None and not 0 < self.near_duplicates <= 1:
            raise ValueError(f"near_duplicates is {self.near_duplicates}; expected a number above 0 and at most 1, such as 0.8")

    def plan(self) -> str:
        much = f"{self.steps} steps" if self.steps else f"{self.epochs:g} epoch(s)"
        return f"train {self.model} on {listed([source.source for source in self.data])}: {much} of {self.batch_size} rows"


@dataclass(frozen=True, kw_only=True)
class KlConfig:
    """The pull towards the reference, which is the model the stage starts from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    coefficient: float = 0.0
    """Weight of KL(policy‖reference); 0 switches the reference off."""
    form: Literal["k1_reward", "k2_loss", "k3_loss"] = "k1_reward"
    """`k1_reward` subtracts log(policy/reference) from the reward and `k2_loss` adds its half square to the loss: both
    have the exact gradient. `k3_loss` is GRPO's original term, whose gradient is the forward KL's."""
    target: float | None = None
    """Adapt the coefficient to hold the KL per token near this value (arXiv:1909.08593, section 2.2)."""

    def __post_init__(self) -> None:
        not_negative(coefficient=self.coefficient)
        if self.target is not None:
            positive(target=self.target, coefficient=self.coefficient)


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(TrainConfig):
    """What the stages share that learn from their own graded samples."""

    tasks: Sequence[TaskSource]
    """Sources of tasks, mixed by weight."""
    graders: Sequence[GraderConfig]
    """What the reward is made of."""
    steps: int = 100
    """Rounds of sampling; each makes one or more optimizer steps."""
    prompts_per_step: int = 16
    """Tasks in one round."""
    samples_per_prompt: int = 8
    """Samples of each task: the group."""
    temperature: float = 1.0
    """Sampling temperature; log-probabilities are of the scaled softmax."""
    max_tokens: int = 128
    """Longest answer in tokens."""
    overlong_buffer: int = 0
    """DAPO's soft overlong punishment: the reward falls by up to 1 over the last this many tokens of `max_tokens`; 0 is off."""
    mismatch_budget: float = 0.15
    """Largest mean absolute log-probability gap between sampler and trainer that the run accepts."""
    max_unscored: float = 0.2
    """Largest share of samples without a score; above it the run stops (no answer is not a zero)."""
    save_rollouts_every: int = 1
    """Keep the rollouts of every this many steps."""

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        if not self.tasks:
            raise ValueError("tasks is empty; expected at least one source")
        require_reward(self.graders, getattr(self, "environment", None))
        positive(
            steps=self.steps,
            prompts_per_step=self.prompts_per_step,
            samples_per_prompt=self.samples_per_prompt,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            mismatch_budget=self.mismatch_budget,
            save_rollouts_every=self.save_rollouts_every,
        )
        not_negative(overlong_buffer=self.overlong_buffer)
        share(max_unscored=self.max_unscored)
        if self.overlong_buffer >= self.max_tokens:
            raise ValueError(f"overlong_buffer is {self.overlong_buffer}; expected less than max_tokens ({self.max_tokens})")


@dataclass(frozen=True, kw_only=True)
class PolicyGradientConfig(RolloutConfig):
    """What the stages share that follow the gradient of the reward by clipped ratios: GRPO's family and PPO."""

    graders: Sequence[GraderConfig] = ()
    """What the reward is made of; an environment that gives a grade needs none."""
    environment: EnvironmentConfig | None = None
    """Play each task as an episode of several turns in this environment; `max_tokens` is then of one turn."""
    learning_rate: float = 1e-4
    """Peak learning rate."""
    epochs: int = 1
    """Passes over one round's samples; a round makes `epochs` × `minibatches` optimizer steps."""
    minibatches: int = 1
    """Optimizer steps in one pass."""
    kl: KlConfig = KlConfig()
    """Pull towards the reference."""
    importance_cap: float = 2.0
    """Truncation of the ratio between the trainer's and the sampler's probabilities."""

    def __post_init__(self) -> None:
        RolloutConfig.__post_init__(self)
        positive(epochs=self.epochs, minibatches=self.minibatches, importance_cap=self.importance_cap)
        if self.minibatches > self.prompts_per_step:
            raise ValueError(f"minibatches is {self.minibatches}; expected at most prompts_per_step ({self.prompts_per_step})")
        if self.environment is not None and self.overlong_buffer:
            raise ValueError(
                f"overlong_buffer is {self.overlong_buffer}; expected 0 with an environment, which has limits of its own"
            )

    @property
    def updates(self) -> int:
        """Optimizer steps of the whole stage."""
        return self.steps * self.epochs * self.minibatches


@dataclass(frozen=True, kw_only=True)
class GrpoConfig(PolicyGradientConfig):
    """Reinforcement learning from graded groups of samples: GRPO and its family."""

    kind: ClassVar[str] = "grpo"

    algorithm: Literal["grpo", "dr_grpo", "dapo", "rloo", "reinforce_pp", "gspo", "cispo"] = "grpo"
    """A member of the family (algorithms/family.py): advantage, policy loss, reduction and clip range."""
    clip_low: float | None = None
    """Lower clip range of the ratio; none takes the algorithm's."""
    clip_high: float | None = None
    """Upper clip range of the ratio; none takes the algorithm's."""
    dynamic_sampling: bool | None = None
    """Replace groups whose rewards are all equal by fresh ones; none takes the algorithm's."""
    max_rounds: int = 3
    """Rounds of fresh tasks dynamic sampling may draw in one step."""

    def __post_init__(self) -> None:
        PolicyGradientConfig.__post_init__(self)
        positive(max_rounds=self.max_rounds)
        if self.samples_per_prompt < 2:
            raise ValueError(f"samples_per_prompt is {self.samples_per_prompt}; a group needs at least 2 to compare")

    def plan(self) -> str:
        much = f"{self.steps} steps of {self.prompts_per_step} x {self.samples_per_prompt}"
        return f"train {self.model} by {self.algorithm} on {listed([source.source for source in self.tasks])}: {much}"
