"""Settings of the stages that measure, select and explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from posttrain.core.config.base import EvaluationReference, ModelReference, Role, StageSettings, listed
from posttrain.core.config.checks import STRICT, not_negative, positive, share
from posttrain.core.config.data import TaskSource
from posttrain.core.config.environments import EnvironmentConfig, require_reward
from posttrain.core.config.graders import GraderConfig


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How answers are drawn outside training."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    samples: int = 1
    """Answers per task."""
    temperature: float = 0.0
    """0 is greedy."""
    max_tokens: int = 128
    """Longest answer in tokens."""
    top_p: float = 1.0
    """Smallest set of tokens whose probability reaches this; 1 is off."""
    top_k: int = 0
    """Number of likeliest tokens to draw from; 0 is off."""
    stop: Sequence[str] = ()
    """Strings that end an answer."""

    def __post_init__(self) -> None:
        positive(samples=self.samples, max_tokens=self.max_tokens, top_p=self.top_p)
        not_negative(temperature=self.temperature, top_k=self.top_k)
        share(top_p=self.top_p)
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples is {self.samples} at temperature 0; greedy answers are all equal, so raise the temperature")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StageSettings):
    """Measure a model on held-out tasks."""

    kind: ClassVar[str] = "evaluate"
    roles: ClassVar[tuple[Role, ...]] = ("evaluation",)

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    suites: Mapping[str, TaskSource]
    """Named sets of tasks."""
    graders: Sequence[GraderConfig] = ()
    """What decides that an answer passes; an environment that gives a grade needs none."""
    environment: EnvironmentConfig | None = None
    """Play each task as an episode of several turns in this environment; `sampling.max_tokens` is then of one turn."""
    model: ModelReference = "base"
    """The model to measure."""
    sampling: SamplingConfig = SamplingConfig()
    """How answers are drawn."""
    pass_at: Sequence[int] = (1,)
    """The k of pass@k; needs at least max(k) samples."""
    compare_to: EvaluationReference | None = None
    """An earlier evaluate stage to compare with, task by task."""
    minimum: Mapping[str, float] = field(default_factory=dict)
    """A gate: the smallest pass@1 of each named suite; below it the run stops with exit code 3."""

    def __post_init__(self) -> None:
        if not self.suites:
            raise ValueError("suites is empty; expected at least one named set of tasks")
        require_reward(self.graders, self.environment)
        if not self.pass_at or min(self.pass_at) < 1 or max(self.pass_at) > self.sampling.samples:
            raise ValueError(
                f"pass_at is {list(self.pass_at)}; expected numbers from 1 to sampling.samples ({self.sampling.samples})"
            )
        for suite in self.minimum:
            if suite not in self.suites:
                raise ValueError(f"minimum names suite {suite!r}, which is not one of {sorted(self.suites)}")

    def plan(self) -> str:
        suites = ", ".join(f"{name} ({source.count})" for name, source in self.suites.items())
        return f"measure {self.model} on {suites}, {self.sampling.samples} answer(s) each"


@dataclass(frozen=True, kw_only=True)
class KeepConfig:
    """Which samples are good enough to learn from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    passed: bool = True
    """Only answers that the graders pass."""
    min_score: float | None = None
    """Only answers with at least this score."""
    max_tokens: int | None = None
    """Only answers of at most this many tokens."""
    max_repetition: float = 0.5
    """Largest share of repeated 4-grams; above it the answer is not readable."""
    language: str | None = None
    """Only answers in this language (ISO 639-1)."""
    per_task: int = 1
    """How many answers of one task to keep, best and then shortest first."""
    finished: bool = True
    """Drop answers cut off by the length limit."""

    def __post_init__(self) -> None:
        positive(per_task=self.per_task)
        share(max_repetition=self.max_repetition)


@dataclass(frozen=True, kw_only=True)
class BestOfNConfig(StageSettings):
    """Sample N answers a task, grade them, keep the best as training data (rejection sampling)."""

    kind: ClassVar[str] = "best_of_n"
    roles: ClassVar[tuple[Role, ...]] = ("data",)

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    tasks: Sequence[TaskSource]
    """Sources of tasks."""
    graders: Sequence[GraderConfig] = ()
    """What decides which answer is best; an environment that gives a grade needs none."""
    environment: EnvironmentConfig | None = None
    """Play each task as an episode of several turns in this environment; `sampling.max_tokens` is then of one turn."""
    model: ModelReference = "base"
    """The model that answers."""
    sampling: SamplingConfig = SamplingConfig(samples=8, temperature=1.0)
    """How answers are drawn."""
    keep: KeepConfig = KeepConfig()
    """Which answers are kept."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks is empty; expected at least one source")
        require_reward(self.graders, self.environment)
        if self.sampling.samples < 2:
            raise ValueError(f"sampling.samples is {self.sampling.samples}; choosing the best needs at least 2")

    def plan(self) -> str:
        count = sum(source.count for source in self.tasks)
        return f"{count} tasks x {self.sampling.samples} answers of {self.model}, the best {self.keep.per_task} kept"


@dataclass(frozen=True, kw_only=True)
class DiagnoseConfig(StageSettings):
    """Say where and how a model fails, and write the data that would help."""

    kind: ClassVar[str] = "diagnose"
    roles: ClassVar[tuple[Role, ...]] = ("tasks", "data")

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    of: EvaluationReference
    """The evaluate stage to explain."""
    before: EvaluationReference | None = None
    """An earlier evaluate stage to compare with: what was fixed, what regressed."""
    examples: int = 5
    """Examples shown of each failure code."""
    patch: TaskSource | None = None
    """A built-in set to draw new tasks from, weighted towards the slices that fail; none writes no patch."""

    def __post_init__(self) -> None:
        positive(examples=self.examples)

    def writes(self) -> frozenset[Role]:
        return frozenset(self.roles) if self.patch is not None else frozenset()

    def plan(self) -> str:
        before = f" against {self.before}" if self.before else ""
        return f"explain {self.of}{before}" + (f", write tasks from {listed([self.patch.source])}" if self.patch else "")
