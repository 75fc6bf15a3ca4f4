"""Settings of PPO: a policy and a critic of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from posttrain.core.config.base import ModelReference, RewardModelReference, listed
from posttrain.core.config.checks import not_negative, positive, share
from posttrain.core.config.data import DataSource
from posttrain.core.config.training import KlConfig, LoraConfig, PolicyGradientConfig


@dataclass(frozen=True, kw_only=True)
class PpoConfig(PolicyGradientConfig):
    """Reinforcement learning with a critic: PPO with advantages by token, as InstructGPT has it, PPO-ptx included."""

    kind: ClassVar[str] = "ppo"

    prompts_per_step: int = 64
    """Tasks in one round."""
    samples_per_prompt: int = 1
    """Samples of each task. The critic is the baseline, so one is enough; more share their prompt's computation."""
    minibatches: int = 4
    """Optimizer steps in one pass."""
    clip_low: float = 0.2
    """Lower clip range of the ratio."""
    clip_high: float = 0.2
    """Upper clip range of the ratio."""
    kl: KlConfig = field(default_factory=lambda: KlConfig(coefficient=0.02))
    """Pull towards the reference; `k1_reward` takes it off the reward of every token. 0.02 is InstructGPT's."""
    gamma: float = 1.0
    """Discount by token; 1 is none."""
    gae_lambda: float = 0.95
    """Decay of the advantage estimate: 1 waits for the reward itself, 0 trusts the critic."""
    whiten_rewards: bool = False
    """Divide the token rewards of a round by their spread (the mean stays)."""
    whiten_advantages: bool = True
    """Give the advantages of a round mean 0 and spread 1, over all trained tokens."""
    truncation: Literal["score", "bootstrap"] = "score"
    """An answer cut off at `max_tokens`: `score` takes the limit as part of the task, so the grade of what was written ends
    it; `bootstrap` takes it as practical, and the critic's value of the cut text stands in the grade's place."""
    value_clip: float | None = 0.2
    """How far a value may move from its start in the round before it has no gradient, in units of the reward; none is off."""
    critic_learning_rate: float = 1e-4
    """Peak learning rate of the critic; warm-up and schedule are the policy's. An optimizer step can move all values at once by
    about this rate times the sum of a hidden state's absolute entries, which is in the hundreds."""
    critic_lora: LoraConfig | None = field(default_factory=LoraConfig)
    """Adapter of the critic; `null` trains all its weights."""
    critic_model: ModelReference | None = None
    """The critic's body; none shares the policy's frozen weights, so that the critic costs its adapter alone."""
    critic_reward_model: RewardModelReference | None = None
    """Start the critic, body and head, from this reward model, as InstructGPT does."""
    ptx: Sequence[DataSource] = ()
    """PPO-ptx: rows whose likelihood is raised beside the reward (InstructGPT, equation 2), mixed by weight."""
    ptx_coefficient: float = 1.0
    """Weight of the mean negative log-likelihood per trained token of a step's `ptx` rows."""
    ptx_batch_size: int = 16
    """Rows of `ptx` in one optimizer step."""
    ptx_max_length: int = 1024
    """Tokens of the longest row of `ptx`; longer ones are cut at the end and counted."""
    decontaminate: bool = True
    """Fail if rows of `ptx` share long n-grams with any evaluation set of the recipe."""

    def __post_init__(self) -> None:
        PolicyGradientConfig.__post_init__(self)
        positive(
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            critic_learning_rate=self.critic_learning_rate,
            ptx_batch_size=self.ptx_batch_size,
            ptx_max_length=self.ptx_max_length,
        )
        not_negative(ptx_coefficient=self.ptx_coefficient)
        share(gamma=self.gamma, gae_lambda=self.gae_lambda)
        if self.value_clip is not None:
            positive(value_clip=self.value_clip)
        if self.critic_model is not None and self.critic_reward_model is not None:
            raise ValueError("critic_model and critic_reward_model are both set; the critic starts from one of them")

    def plan(self) -> str:
        much = f"{self.steps} steps of {self.prompts_per_step} x {self.samples_per_prompt}"
        mixed = f", with ptx on {listed([source.source for source in self.ptx])}" if self.ptx else ""
        return f"train {self.model} by ppo on {listed([source.source for source in self.tasks])}{mixed}: {much}"
