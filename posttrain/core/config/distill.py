"""Settings of the stages that learn from a teacher: its answers written down, and its word on every token of the student's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from posttrain.core.config.base import ModelReference, Role, StageSettings, listed
from posttrain.core.config.checks import STRICT, positive, share
from posttrain.core.config.data import DataSource, TaskSource
from posttrain.core.config.endpoint import EndpointConfig
from posttrain.core.config.graders import GraderConfig
from posttrain.core.config.stages import KeepConfig, SamplingConfig
from posttrain.core.config.training import TrainConfig

GREEDY = SamplingConfig()


@dataclass(frozen=True, kw_only=True)
class TeachConfig(StageSettings):
    """Write down a teacher's answers as training data (distillation from its samples)."""

    kind: ClassVar[str] = "teach"
    roles: ClassVar[tuple[Role, ...]] = ("data",)

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    teacher: ModelReference | None = None
    """The model that answers, on this machine."""
    endpoint: EndpointConfig | None = None
    """The model that answers, behind an endpoint; in place of `teacher`."""
    tasks: Sequence[TaskSource] = ()
    """Sources of tasks to answer."""
    data: Sequence[DataSource] = ()
    """Sources of rows whose prompts are answered: all turns before the last answer."""
    graders: Sequence[GraderConfig] = ()
    """What decides which answers are good; none keeps them unjudged."""
    sampling: SamplingConfig = GREEDY
    """How answers are drawn."""
    keep: KeepConfig | None = None
    """Which answers are kept; none keeps all that are finished and, where there are graders, passed."""
    max_unanswered: float = 0.05
    """Largest share of answers an endpoint may owe; above it the stage stops, keeps the others, and goes on when run again."""

    def __post_init__(self) -> None:
        if (self.teacher is None) == (self.endpoint is None):
            raise ValueError("teacher and endpoint are both given or both missing; expected one of them")
        if not self.tasks and not self.data:
            raise ValueError("tasks is empty, and so is data; expected at least one source")
        if self.graders and self.data:
            raise ValueError("graders is set beside data; expected tasks, since rows have no answer to grade by")
        if self.keep and not self.graders and (self.keep.passed or self.keep.min_score is not None):
            raise ValueError("keep asks for passed or min_score, which only graders give; expected graders, or passed: false")
        share(max_unanswered=self.max_unanswered)

    @property
    def kept(self) -> KeepConfig:
        """Which answers are kept, with `keep` missing written out."""
        return self.keep or KeepConfig(passed=bool(self.graders), per_task=self.sampling.samples, max_repetition=1.0)

    def plan(self) -> str:
        teacher = self.teacher or (self.endpoint.model if self.endpoint else "")
        sources = listed([task.source for task in self.tasks] + [row.source for row in self.data])
        return f"{self.sampling.samples} answer(s) of {teacher} to each of {sources}, the good ones kept"


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainConfig):
    """On-policy distillation: the student writes, the teacher says of every token how likely it would have been."""

    kind: ClassVar[str] = "distill"

    teacher: ModelReference
    """The model to learn from; it must have the student's tokenizer."""
    tasks: Sequence[TaskSource] = ()
    """Sources of tasks the student answers; their reference answers are not used."""
    data: Sequence[DataSource] = ()
    """Sources of rows that others wrote, for the steps that are not on the student's own samples."""
    on_policy: float = 1.0
    """Share of steps on the student's own samples (λ of GKD); the others are on `data`."""
    divergence: Literal["reverse_kl", "forward_kl", "jsd"] = "reverse_kl"
    """What is made small: KL(student‖teacher), KL(teacher‖student), or the generalised Jensen-Shannon divergence."""
    beta: float = 0.5
    """The teacher's share of `jsd`'s mixture: towards 0 it acts like the forward KL, towards 1 like the reverse."""
    over: Literal["vocabulary", "top_k", "sampled"] = "vocabulary"
    """Over all tokens; over the teacher's likeliest and one outcome for the rest; or from the written token alone, as a reward."""
    top_k: int = 64
    """How many tokens `over: top_k` names."""
    reduction: Literal["token_mean", "sequence_mean"] = "token_mean"
    """Whether every token or every answer counts the same."""
    learning_rate: float = 1e-4
    """Peak learning rate."""
    steps: int = 100
    """Optimizer steps."""
    prompts_per_step: int = 16
    """Tasks in one step."""
    samples_per_prompt: int = 4
    """The student's answers to each."""
    batch_size: int = 16
    """Rows of `data` in a step that is not on the student's own samples."""
    temperature: float = 1.0
    """Sampling temperature, which also scales both models' logits."""
    max_tokens: int = 128
    """Longest answer in tokens."""
    max_length: int = 1024
    """Tokens of the longest row of `data`; longer ones are cut at the end and counted."""
    decontaminate: bool = True
    """Fail if rows of `data` share long n-grams with any evaluation set of the recipe."""
    mismatch_budget: float = 0.15
    """Largest mean absolute log-probability gap between sampler and trainer that the run accepts."""
    save_rollouts_every: int = 1
    """Keep the student's answers of every this many steps."""

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        share(on_policy=self.on_policy)
        positive(
            top_k=self.top_k,
            steps=self.steps,
            prompts_per_step=self.prompts_per_step,
            samples_per_prompt=self.samples_per_prompt,
            batch_size=self.batch_size,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            max_length=self.max_length,
            mismatch_budget=self.mismatch_budget,
            save_rollouts_every=self.save_rollouts_every,
        )
        if not 0 < self.beta < 1:
            raise ValueError(f"beta is {self.beta}; expected a number between 0 and 1, at whose ends the divergence is 0")
        if self.on_policy > 0 and not self.tasks:
            raise ValueError("tasks is empty; expected at least one source, or on_policy: 0")
        if self.on_policy < 1 and not self.data:
            raise ValueError(f"data is empty; expected at least one source for the steps that on_policy ({self.on_policy}) leaves")
        if self.on_policy == 1 and self.data:
            raise ValueError("data is given but never used; expected on_policy below 1")
        if self.over == "sampled" and (self.divergence != "reverse_kl" or self.on_policy < 1):
            raise ValueError("over is 'sampled', which is the reverse KL on the student's own samples; expected over: vocabulary")

    def plan(self) -> str:
        sources = listed([task.source for task in self.tasks] + [row.source for row in self.data])
        return f"train {self.model} towards {self.teacher} by {self.divergence} on {sources}: {self.steps} steps"
