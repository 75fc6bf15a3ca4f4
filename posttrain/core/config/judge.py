"""Settings of the judge: language models that grade answers, by a rubric or by comparing two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from posttrain.core.config.base import ModelReference
from posttrain.core.config.checks import STRICT, not_negative, positive, share
from posttrain.core.config.endpoint import EndpointConfig
from posttrain.core.config.weighted import Weighted


@dataclass(frozen=True, kw_only=True)
class JudgeModel:
    """One judge of a panel: a model in this process, or one behind an endpoint."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    model: ModelReference | None = None
    """A model in this process: a known name, a stage's id, `run:<name>/<stage>`, or a directory."""
    endpoint: EndpointConfig | None = None
    """A model behind any server that speaks OpenAI's chat completions."""

    def __post_init__(self) -> None:
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("model and endpoint: expected exactly one of them")

    @property
    def name(self) -> str:
        return self.model if self.endpoint is None else f"{self.endpoint.model} at {self.endpoint.url}"  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class JudgeGrader(Weighted):
    """Language models judge the answer: binary criteria, or comparisons in both orders."""

    kind: Literal["judge"] = "judge"
    models: Sequence[JudgeModel]
    """Who judges; several are a panel. Take them from different families, and not the policy's alone."""
    criteria: Sequence[str] = ()
    """A rubric: statements that hold for a good answer, each judged yes or no by itself."""
    compare: Literal["reference", "baseline", "group"] | None = None
    """Instead of a rubric, which answer is better: this one or the task's reference answer, its `metadata.baseline`, or the other
    answers of its group. Asked in both orders; only a win in both is a win."""
    question: str = "Which answer is more helpful, correct and clear?"
    """What `compare` asks."""
    opponents: int = 2
    """Answers of the group that each answer meets, in `compare: group`."""
    show_reference: bool = True
    """Show a rubric's judge the task's reference answer, where there is one."""
    reasoning: bool = False
    """Let the judge give a reason before its verdict, as JSON. Better for large models, and slower."""
    combine: Literal["mean", "majority"] = "mean"
    """How the verdicts of a panel make one score: their mean, or what more than half of the judges say of each question."""
    quorum: int | None = None
    """Judges that must have answered, or the grade is unscored; none means all."""
    pass_at: float = 1.0
    """Score from which an answer passes. A criterion counts by its verdict here, not by its probability."""
    probabilities: bool = True
    """Take the verdict from the probability of the verdict's tokens, where the model gives it; else from its text."""
    max_tokens: int = 8
    """Longest reply of the judge; raise it with `reasoning`."""
    temperature: float = 0.0
    """0 is greedy."""
    max_requests: int | None = None
    """Requests that each judge may be asked in this stage; beyond it grades are unscored, and the run pauses."""
    max_total_tokens: int | None = None
    """Tokens of questions and replies that each judge may take in this stage."""
    calibration: str | None = None
    """What `posttrain graders calibrate` wrote about this judge. Training needs one that trusts it."""
    accept_untrusted_judge: bool = False
    """Train on this judge's grades although no calibration shows that it can be trusted. The report says so."""
    canary_every: int = 10
    """Training steps between checks with answers of known worth (about 16 questions for each criterion); 0 never checks."""
    most_fooled: float | None = None
    """Share of the answers without merit that may pass such a check; above it training stops. None only warns of a rise."""

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        positive(opponents=self.opponents, max_tokens=self.max_tokens)
        not_negative(temperature=self.temperature, canary_every=self.canary_every)
        share(pass_at=self.pass_at)
        if self.most_fooled is not None:
            share(most_fooled=self.most_fooled)
        if not self.models:
            raise ValueError("models is empty; expected at least one judge")
        if len({each.name for each in self.models}) < len(self.models):
            raise ValueError("models names one judge twice; expected different ones")
        if bool(self.criteria) == (self.compare is not None):
            raise ValueError("criteria and compare: expected exactly one of them")
        if self.quorum is not None and not 1 <= self.quorum <= len(self.models):
            raise ValueError(f"quorum is {self.quorum}; expected a number from 1 to {len(self.models)}, the number of models")
        if self.reasoning and self.max_tokens < 64:
            raise ValueError(f"max_tokens is {self.max_tokens}; a reason and a verdict need at least 64")
        for name, value in (("max_requests", self.max_requests), ("max_total_tokens", self.max_total_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        if any(not criterion.strip() for criterion in self.criteria):
            raise ValueError("criteria holds an empty one; expected statements")
