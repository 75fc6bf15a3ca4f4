"""The words every part shares, one type each.

Frozen and without behaviour beyond checking themselves: a value that exists is valid. Token streams are
`array('i')` and `array('f')`, which torch, Arrow and Ray read without copying.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "abort"]
GradeStatus = Literal["scored", "unscored", "error"]
RolloutStatus = Literal["done", "truncated", "failed"]
Ending = Literal["", "terminated", "truncated", "turns", "tokens", "length", "deadline", "failed"]
"""How an episode ended: by the world itself; the environment broke off; its turns, its tokens or one turn's length ran out; its
time ran out; something broke."""
Tokens = array  # array('i')

ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


def ints(values: Iterable[int]) -> array[int]:
    return array("i", values)


def floats(values: Iterable[float]) -> array[float]:
    return array("f", values)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the assistant asks to be called. `arguments` is plain JSON data."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `thinking` is the assistant's reasoning where the format keeps it apart from the answer."""

    role: Role
    content: str
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A question that can be graded.

    `answer` is the reference answer, None where a grader needs none. `slices` says which part of the suite the task
    belongs to, one value per dimension ({"operation": "add", "digits": "2"}); evaluation and diagnosis group by it.
    `metadata` is whatever a grader needs beyond the answer.
    """

    id: str
    messages: tuple[Message, ...]
    answer: str | None = None
    slices: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("a task needs an id")
        if not self.messages:
            raise ValueError(f"task {self.id} has no messages")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one completion is drawn. Temperature 0 is greedy. `top_p` 1 and `top_k` 0 leave the distribution whole."""

    temperature: float = 1.0
    max_tokens: int = 256
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature is {self.temperature}; expected 0 (greedy) or a positive number")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; expected at least 1")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; expected a number in (0, 1]")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; expected 0 (off) or a positive number")

    @property
    def whole(self) -> bool:
        """True if every token of the vocabulary can be drawn, as an importance ratio needs."""
        return self.top_p == 1 and self.top_k == 0 and self.temperature > 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What a generator wrote: tokens (the end token included if it was written), the natural log-probability of each
    under the temperature-scaled full softmax, the weight version that wrote each, the text without special tokens.

    `top` holds, where it was asked for, the likeliest tokens at each place, likeliest first: (token, log-probability)."""

    tokens: array[int]
    logprobs: array[float]
    versions: array[int]
    text: str
    finish: Finish
    top: tuple[tuple[tuple[int, float], ...], ...] = ()

    def __post_init__(self) -> None:
        same_length(tokens=self.tokens, logprobs=self.logprobs, versions=self.versions)


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """One token of a reply: its text, its log-probability, and the likeliest tokens at its place with theirs."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a chat model answered: the text, its reasoning where the server keeps it apart, and how many tokens both took, where
    it says so. `choices` are the answer's tokens with their alternatives, where they were asked for and the server gives them."""

    text: str
    finish: Finish
    tokens: int | None = None
    thinking: str = ""
    prompt_tokens: int | None = None
    choices: tuple[TokenChoice, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRow:
    """The tokens a model really saw and wrote, with one value per token of each stream.

    `mask` is 1 where the model itself wrote the token and so may be trained on it; `logprobs` and `versions` are 0 and
    -1 elsewhere.
    """

    tokens: array[int]
    mask: array[int]
    logprobs: array[float]
    versions: array[int]

    def __post_init__(self) -> None:
        same_length(tokens=self.tokens, mask=self.mask, logprobs=self.logprobs, versions=self.versions)


@dataclass(frozen=True, slots=True)
class Grade:
    """A grader's verdict. `unscored` (no answer from the grader) and `error` are never a score of 0.

    `parts` names the components of the score; a part that could not be judged is None.
    """

    score: float | None
    passed: bool | None = None
    status: GradeStatus = "scored"
    answer: str | None = None
    explanation: str = ""
    parts: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.status == "scored") != (self.score is not None):
            raise ValueError(f"a grade with status {self.status!r} cannot have score {self.score!r}")
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"a grade's score must be finite, not {self.score}")

    @classmethod
    def unscored(cls, explanation: str) -> Grade:
        return cls(None, None, "unscored", explanation=explanation)

    @classmethod
    def error(cls, explanation: str) -> Grade:
        return cls(None, None, "error", explanation=explanation)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One attempt at a task. `sample` numbers the attempts of a group; `messages` is the whole conversation.

    `ending` says how an episode in an environment came to its end, and is empty for a single answer; `tools` are the JSON schemas
    of what the model could call in it.
    """

    task: Task
    sample: int
    messages: tuple[Message, ...]
    rows: tuple[TokenRow, ...]
    sampling: Sampling
    status: RolloutStatus = "done"
    grade: Grade | None = None
    failure: str = ""
    ending: Ending = ""
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def text(self) -> str:
        """The last assistant turn's text; empty if the model wrote nothing."""
        return next((m.content for m in reversed(self.messages) if m.role == "assistant"), "")

    @property
    def written(self) -> int:
        """How many tokens the model wrote."""
        return sum(sum(row.mask) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Group:
    """A task and its attempts, in sample order."""

    task: Task
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that an environment offers. `parameters` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    @property
    def schema(self) -> dict[str, Any]:
        """The form in which chat templates and endpoints write tools."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Observation:
    """What the model reads next: results of its calls (role `tool`) or a turn of the user. The one from `reset` is the whole
    opening of the conversation, mostly the task's own messages."""

    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """What the model did: the turn it wrote, its calls taken out of the text where they could be read."""

    message: Message


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of an action.

    `terminated`: the world is at an end (solved, lost, answered). `truncated`: the environment broke off for a reason that is
    not part of the task. `grade` is the verdict on the episode if it ended here; the last one given counts, also when a limit
    on turns or tokens ends the episode. So an environment that grades gives one with every step, or at least with the last.
    """

    observation: Observation
    terminated: bool = False
    truncated: bool = False
    grade: Grade | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A training example as turns; the assistant's turns are what is learnt. `origin` says where it came from.

    The first `context` messages are only read, their assistant turns are not learnt. `tools` are the JSON schemas of the
    functions the assistant may call.
    """

    messages: tuple[Message, ...]
    origin: str = ""
    slices: Mapping[str, str] = field(default_factory=dict)
    context: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A training example as plain text without a chat template; the completion is what is learnt."""

    completion: str
    prompt: str = ""
    origin: str = ""


Example = Conversation | Passage


@dataclass(frozen=True, slots=True)
class Pair:
    """Answer `better` is preferred to answer `worse` (indices) with this probability; `margin` says by how much, where known."""

    better: int
    worse: int
    probability: float = 1.0
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.better == self.worse or min(self.better, self.worse) < 0:
            raise ValueError(f"a pair compares two different answers, not {self.better} and {self.worse}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"a pair's probability is {self.probability}; expected a number from 0 to 1")
        if self.margin is not None and not math.isfinite(self.margin):
            raise ValueError(f"a pair's margin must be finite, not {self.margin}")


@dataclass(frozen=True, slots=True)
class Preference:
    """K answers to one prompt and which are better. Each answer is the messages that follow the prompt.

    `source` says who preferred (human, judge, verifier, synthetic, ...); `origin` where the row stands. `labels` says of each
    answer whether it is desirable, where that is known instead of which is better (KTO's unpaired rows).
    """

    prompt: tuple[Message, ...]
    answers: tuple[tuple[Message, ...], ...]
    pairs: tuple[Pair, ...]
    origin: str = ""
    source: str = ""
    slices: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if self.labels and len(self.labels) != len(self.answers):
            raise ValueError(f"{len(self.labels)} labels for {len(self.answers)} answers")
        if any(max(pair.better, pair.worse) >= len(self.answers) for pair in self.pairs):
            raise ValueError(f"a pair names an answer beyond the {len(self.answers)} there are")


def same_length(**streams: array[Any]) -> None:
    lengths = {name: len(stream) for name, stream in streams.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"streams of one row differ in length: {lengths}")
