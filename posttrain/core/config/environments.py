"""Which environment a stage's tasks are played in, and how long an episode may be.

Its grade may be the whole reward, or be added to those of the stage's graders with `weight`, or be their `gate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from posttrain.core.config.checks import STRICT, positive
from posttrain.core.config.graders import GraderConfig
from posttrain.core.config.weighted import Weighted


@dataclass(frozen=True, kw_only=True)
class EpisodeConfig(Weighted):
    """What all environments share: the limits of an episode, and what its grade weighs."""

    max_turns: int = 8
    """Turns of the model in one episode; an episode that needs more is truncated."""
    max_episode_tokens: int = 2048
    """Tokens of a whole episode, prompt and tool results included; the model gets no further turn beyond it."""
    step_timeout_s: float = 120.0
    """Seconds the environment may take to answer one turn, what it waits for in a queue (as programs do for the sandbox) included;
    longer is a failed rollout, which is not a score of 0."""
    episode_timeout_s: float = 600.0
    """Seconds a whole episode may take, looked at between turns; then it is broken off, says so, and has no score."""
    at_once: int = 256
    """Episodes played side by side; their turns are written in one batch."""

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        positive(
            max_turns=self.max_turns,
            max_episode_tokens=self.max_episode_tokens,
            step_timeout_s=self.step_timeout_s,
            episode_timeout_s=self.episode_timeout_s,
            at_once=self.at_once,
        )

    def judges(self) -> bool:
        """Whether the environment gives a grade itself; one that does not needs graders."""
        return True


@dataclass(frozen=True, kw_only=True)
class CalculatorTool:
    """`calculator(expression)`: arithmetic in plain notation, worked out exactly."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["calculator"] = "calculator"


@dataclass(frozen=True, kw_only=True)
class PythonTool:
    """`python(code)`: runs a program in the sandbox and gives back what it printed."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["python"] = "python"
    timeout_s: float = 10.0
    """Seconds one program may run."""
    memory_mb: int = 256
    """Memory one program may take, in MB."""

    def __post_init__(self) -> None:
        positive(timeout_s=self.timeout_s, memory_mb=self.memory_mb)


@dataclass(frozen=True, kw_only=True)
class SearchTool:
    """`search(query)`: the best articles of a small corpus by BM25."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["search"] = "search"
    corpus: str = "builtin:almanac"
    """`builtin:almanac`, articles about an invented country, or a file of articles (`./articles.jsonl`, columns title and text)."""
    results: int = 2
    """Articles in one answer."""

    def __post_init__(self) -> None:
        positive(results=self.results)


@dataclass(frozen=True, kw_only=True)
class SqlTool:
    """`sql(query, parameters)`: one SELECT on a SQLite database that is opened read-only."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["sql"] = "sql"
    database: str = "builtin:almanac"
    """`builtin:almanac`, tables about an invented country, or a SQLite file (`./shop.sqlite`)."""
    rows: int = 20
    """Rows in one answer; what is left out is said."""

    def __post_init__(self) -> None:
        positive(rows=self.rows)


ToolConfig = CalculatorTool | PythonTool | SearchTool | SqlTool


@dataclass(frozen=True, kw_only=True)
class ToolsEnvironment(EpisodeConfig):
    """The model may call tools until it answers in plain text, which ends the episode. Graders judge the answer."""

    kind: Literal["tools"] = "tools"
    tools: Sequence[ToolConfig]
    """What may be called, such as [{kind: calculator}]."""

    def __post_init__(self) -> None:
        EpisodeConfig.__post_init__(self)
        kinds = [tool.kind for tool in self.tools]
        if not kinds:
            raise ValueError("tools is empty; expected at least one, such as {kind: calculator}")
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"tools names {twice[0]} twice; the model calls a tool by its name")

    def judges(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class OwnEnvironment(EpisodeConfig):
    """An environment of your own: a class or function that makes one from a task."""

    kind: Literal["own"] = "own"

    path: str
    """`./my_environment.py:Shop`: a file and the class or function in it. The file is run as code: use only your own."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for it, beside the task."""
    grades: bool = True
    """Whether it gives a grade; if not, the stage's graders alone judge the last turn."""

    def judges(self) -> bool:
        return self.grades


@dataclass(frozen=True, kw_only=True)
class ShopEnvironment(EpisodeConfig):
    """A web shop on loopback, for tasks of `builtin:shop`: the model opens pages, clicks and fills in forms. The grade is 1 if
    the cart and the orders end as the task asks, 0 if not."""

    kind: Literal["shop"] = "shop"
    browser: Literal["http", "chromium"] = "http"
    """`http` follows links and sends forms by itself; `chromium` does so in a headless browser and needs the extra `browser`."""
    max_turns: int = 16
    """Turns of the model in one episode; an episode that needs more is truncated."""
    max_episode_tokens: int = 6144
    """Tokens of a whole episode, prompt and pages included; the model gets no further turn beyond it."""


@dataclass(frozen=True, kw_only=True)
class GymnasiumEnvironment(EpisodeConfig):
    """A gymnasium environment with discrete or text actions, from the package gymnasium. The score is the sum of its rewards."""

    kind: Literal["gymnasium"] = "gymnasium"

    id: str
    """Its id, such as FrozenLake-v1."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for it, such as {is_slippery: false}."""
    actions: Sequence[str] = ()
    """Names for the numbers of a discrete action, in order, such as [left, down, right, up]; the model then says the name."""
    render: bool = False
    """Show what the environment draws as text (its `ansi` mode) and not its values."""
    success: float | None = None
    """Sum of rewards from which an episode counts as passed; without one, none passes or fails."""
    max_turns: int = 50
    """Turns of the model in one episode; an episode that needs more is truncated."""


@dataclass(frozen=True, kw_only=True)
class OpenEnvEnvironment(EpisodeConfig):
    """A running OpenEnv server, asked through the package openenv. The score is the sum of the rewards it gives."""

    kind: Literal["openenv"] = "openenv"

    url: str
    """Address of the server, such as http://127.0.0.1:8000."""
    success: float | None = None
    """Sum of rewards from which an episode counts as passed; without one, none passes or fails."""


@dataclass(frozen=True, kw_only=True)
class TextArenaEnvironment(EpisodeConfig):
    """A game of the package textarena that needs no network. The model writes its moves as plain text; in games for two the
    other side draws a move at random."""

    kind: Literal["textarena"] = "textarena"

    game: str
    """Its id, such as GuessTheNumber-v0; the kinds known to work offline are in environments/adapters/textarena.py."""
    max_turns: int = 30
    """Turns of the model in one episode; an episode that needs more is truncated."""


@dataclass(frozen=True, kw_only=True)
class ReasoningGymEnvironment(EpisodeConfig):
    """Questions of the package reasoning-gym with its scorers, one turn each. A data set whose scorer accepts junk is refused."""

    kind: Literal["reasoning_gym"] = "reasoning_gym"

    datasets: Sequence[str]
    """Data sets such as [leg_counting, chain_sum]; each is tried when the stage is prepared."""
    scorer: Literal["own", "exact"] = "own"
    """`own` asks the data set's scorer; `exact` accepts the reference answer alone, for data sets whose scorer is broken."""


@dataclass(frozen=True, kw_only=True)
class BfclEnvironment(EpisodeConfig):
    """Multi-turn tool use of the Berkeley Function-Calling Leaderboard, from the package bfcl-eval. Passed if after every turn
    of the user the simulated services are in the state that the reference calls lead to."""

    kind: Literal["bfcl"] = "bfcl"
    max_turns: int = 40
    """Turns of the model in one episode, over all turns of the user; an episode that needs more is truncated."""
    max_episode_tokens: int = 8192
    """Tokens of a whole episode, tools and results included; the model gets no further turn beyond it."""


EnvironmentConfig = (
    ToolsEnvironment
    | OwnEnvironment
    | ShopEnvironment
    | GymnasiumEnvironment
    | OpenEnvEnvironment
    | TextArenaEnvironment
    | ReasoningGymEnvironment
    | BfclEnvironment
)


def require_reward(graders: Sequence[GraderConfig], environment: EpisodeConfig | None) -> None:
    """Something must give a score: a grader, or an environment that judges."""
    judges = environment is not None and environment.judges()
    if not graders and not judges:
        known = "" if environment is None else ", for this environment gives no grade"
        raise ValueError(f"graders is empty; expected at least one grader, such as math{known}")
    if environment is not None and judges and not graders and (environment.gate or environment.weight == 0):
        raise ValueError("environment is a gate or has weight 0, and there are no graders; nothing would give a score")
