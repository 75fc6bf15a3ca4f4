"""What the pipeline asks of every kind of stage.

The settings answer: what they refer to, what the stage leaves behind, its line in the plan.
So a new kind is its settings, its work in `stages/<kind>.py`, and one line in STAGE_KINDS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

Role = Literal["model", "data", "tasks", "evaluation", "preferences", "reward_model", "adapter"]
PATH_MARKS = ("./", "../", "/", "~/")


@dataclass(frozen=True)
class Refers:
    """Marks a setting whose text refers to something in a role: `Annotated[str, Refers("model")]`."""

    role: Role
    """What the thing referred to is used as."""


ModelReference = Annotated[str, Refers("model")]
RewardModelReference = Annotated[str, Refers("reward_model")]
AdapterReference = Annotated[str, Refers("adapter")]
EvaluationReference = Annotated[str, Refers("evaluation")]


class StageSettings:
    """`roles` are what later stages may use this kind as; `meaning` is raised when a kind's result changes although its
    settings did not, and finished stages of that kind then run again."""

    kind: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]] = ()
    meaning: ClassVar[int] = 1

    def writes(self) -> frozenset[Role]:
        """The roles later stages can use this very stage in."""
        return frozenset(self.roles)

    def parent(self) -> str:
        """The reference of the model that this stage measures or starts from."""
        return str(getattr(self, "model", "base"))

    def plan(self) -> str:
        """What goes in, how much, what comes out, in one line."""
        return self.kind


def is_path(text: str) -> bool:
    return text.startswith(PATH_MARKS) or text in (".", "..")


def listed(sources: Sequence[str]) -> str:
    """Sources for a line of the plan: files by their name alone."""
    return ", ".join(Path(source).name if is_path(source) else source for source in sources)
