"""Where training rows and tasks come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from posttrain.core.config.base import Refers
from posttrain.core.config.checks import STRICT, positive

Format = Literal["auto", "messages", "prompt_completion", "text", "sharegpt", "alpaca"]


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One source of training rows. A bare string in a recipe means `source` alone."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    source: Annotated[str, Refers("data")]
    """A file (`./train.jsonl`), the id of an earlier stage that writes data, or `builtin:<set>` for demonstrations of a
    built-in task set."""
    format: Format = "auto"
    """How rows are laid out; `auto` decides by the columns and prints what it found."""
    weight: float = 1.0
    """Share of this source in a mixture, relative to the other sources' weights."""
    count: int | None = None
    """Use at most this many rows."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of a built-in set, such as {operations: [add, subtract], digits: [1, 2]}."""

    def __post_init__(self) -> None:
        positive(weight=self.weight)
        if self.count is not None:
            positive(count=self.count)


@dataclass(frozen=True, kw_only=True)
class TaskSource:
    """One source of tasks. A bare string in a recipe means `source` alone."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    source: Annotated[str, Refers("tasks")]
    """`builtin:<set>`, a file of tasks (`./tasks.jsonl`), or the id of a diagnose stage, whose data patch it uses."""
    split: Literal["train", "test"] = "train"
    """Built-in sets keep train and test apart; a file is used whole."""
    count: int = 256
    """How many tasks."""
    seed: int = 0
    """Seed of a built-in generator."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of a built-in set, such as {operations: [add], digits: [2]}."""
    system: str | None = None
    """System prompt put before each task; none leaves the model's default."""
    weight: float = 1.0
    """Share of this source in a mixture, relative to the other sources' weights."""

    def __post_init__(self) -> None:
        positive(count=self.count, weight=self.weight)


@dataclass(frozen=True, kw_only=True)
class PreferenceSource:
    """One source of preferences. A bare string in a recipe means `source` alone."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    source: Annotated[str, Refers("preferences")]
    """A file (`./pairs.jsonl`) or the id of an earlier stage that writes preferences."""
    weight: float = 1.0
    """Share of this source in a mixture, relative to the other sources' weights."""
    count: int | None = None
    """Use at most this many rows."""

    def __post_init__(self) -> None:
        positive(weight=self.weight)
        if self.count is not None:
            positive(count=self.count)
