"""The contract between the pipeline, which orders and resumes, and a stage, which works.

A stage kind is one function `run(config, context) -> StageResult` in `stages/`. It may be killed at any moment and
called again with the same context: it continues from its last checkpoint in `context.directory`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posttrain.core.config import Recipe
from posttrain.core.protocols import Reporter, Silent


@dataclass
class Stop:
    """Set by a signal handler; loops look at it between steps, write a checkpoint and raise Interrupted."""

    signal: int = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@dataclass(frozen=True)
class StageContext:
    """What a stage may know of the run around it."""

    id: str
    """The stage's id."""
    directory: Path
    """Its folder in the run; `records.paths.StagePaths(directory)` names what is in it."""
    recipe: Recipe
    """The whole recipe, for what crosses stages (evaluation sets, for decontamination)."""
    references: Mapping[str, str]
    """What each reference in the config stands for: `base` or a stage id -> a model name, directory or data file."""
    seed: int
    """The run's seed; derive everything from it by name (core/seeds.py)."""
    reporter: Reporter = field(default_factory=Silent)
    """Where progress goes."""
    stop: Stop = field(default_factory=Stop)
    """Looked at between steps."""


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves behind. `artefacts` maps a role (`model`, `adapter`, `data`, `tasks`, `evaluation`, `diagnosis`)
    to a path inside the stage's directory; `summary` is small plain data for result.json and the report."""

    artefacts: Mapping[str, Path]
    summary: Mapping[str, Any]
    evaluations: Mapping[str, Any] = field(default_factory=dict)
