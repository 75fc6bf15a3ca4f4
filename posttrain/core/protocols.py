"""The narrow waists: who calls what, and nothing more. A part receives these as arguments and never imports the maker."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from posttrain.core.types import (
    Action,
    Completion,
    Grade,
    Message,
    Observation,
    Reply,
    Rollout,
    Sampling,
    StepResult,
    Task,
    Tool,
)


class Generator(Protocol):
    """Writes completions. One sample a call; the engine batches, and equal prompts share their prefill."""

    version: int

    async def generate(self, prompt: array[int], sampling: Sampling, *, seed: int) -> Completion: ...

    async def update(self, version: int) -> None:
        """Refresh whatever derives from the trainer's weights, after an optimizer step."""


class ChatModel(Protocol):
    """Answers conversations in text: a teacher or a judge, such as one behind an endpoint."""

    async def reply(self, messages: Sequence[Message], sampling: Sampling, *, seed: int, top: int = 0) -> Reply:
        """One answer, with the `top` likeliest tokens at each place where the model can say so. Raises Unanswered where there is
        no answer, which is never an empty one."""


class Grader(Protocol):
    """Judges a rollout. Raises nothing for a bad answer: a wrong answer is a Grade, a broken grader is an exception."""

    async def __call__(self, task: Task, rollout: Rollout) -> Grade: ...


class GroupGrader(Protocol):
    """Judges the attempts at one task together, because a score depends on the others'. One grade a rollout, in order."""

    async def group(self, task: Task, rollouts: Sequence[Rollout]) -> Sequence[Grade]: ...


class RewardScorer(Protocol):
    """A reward model, asked for conversations. What is asked for together is computed together."""

    async def rewards(self, messages: Sequence[Message], *, normalise: bool) -> Sequence[float]:
        """The score of each member of the ensemble. Raises UserError for what it cannot read."""


class Environment(Protocol):
    """A world for one episode: it is made for a task, reset once, stepped after every turn of the model, and always closed.

    An exception from any method makes a failed rollout, never a score. What a model does wrong (a call that cannot be read, a
    tool that does not exist) is no exception: the environment tells the model so in its observation.
    """

    @property
    def tools(self) -> Sequence[Tool]:
        """What the model may call, fixed from `reset` on. Empty where it acts by plain text."""

    async def reset(self, task: Task) -> Observation: ...

    async def step(self, action: Action) -> StepResult: ...

    async def close(self) -> None:
        """Free everything. Called exactly once, also after an exception or a deadline in the methods above."""


EnvironmentFactory = Callable[[Task], Environment]
"""Makes the environment of one episode. Cheap, and no work yet: that is for `reset`."""


class Renderer(Protocol):
    """Messages to tokens, for the model at hand. `tools` are the JSON schemas of what the assistant may call."""

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> array[int]:
        """Tokens up to and including the header that makes the assistant speak next."""

    def following(
        self,
        messages: Sequence[Message],
        written: array[int],
        added: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> array[int]:
        """The tokens between an answer, which ends `messages` and whose own tokens are `written`, and the next one: what the
        template writes for the turns `added`."""

    def parse(self, text: str, *, calls: bool = False) -> Message:
        """The assistant message that a completion's text stands for; with `calls`, its tool calls taken out of the text."""


class Reporter(Protocol):
    """Where a long piece of work says how far it is. Implementations: terminal, silent."""

    def start(self, work: str, total: int) -> None: ...

    def advance(self, count: int = 1, **shown: float) -> None: ...

    def finish(self) -> None: ...

    def say(self, text: str) -> None: ...


class Silent:
    """A Reporter for tests and programs."""

    def start(self, work: str, total: int) -> None: ...

    def advance(self, count: int = 1, **shown: float) -> None: ...

    def finish(self) -> None: ...

    def say(self, text: str) -> None: ...
