"""What every grader's settings share: how its score enters the sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from posttrain.core.config.checks import STRICT, not_negative


@dataclass(frozen=True, kw_only=True)
class Weighted:
    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    weight: float = 1.0
    """Factor of this grader's score in the sum."""
    gate: bool = False
    """If true, the whole score is 0 unless this grader passes; its own score does not count in the sum."""

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
