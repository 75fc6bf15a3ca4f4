"""Every path of a run, in one place. Nothing else in the project spells a file name of the run directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

STAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)?")
"""A stage's id is also its folder: a name, or a round and a name (`round-1/train`). Never `..`, never absolute."""


@dataclass(frozen=True)
class StagePaths:
    """What one stage leaves in its folder."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.directory / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.directory / "events.jsonl"

    @property
    def rollouts(self) -> Path:
        """A folder of parquet files, one a step or a suite."""
        return self.directory / "rollouts"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def model(self) -> Path:
        """A directory that transformers loads as it is."""
        return self.directory / "model"

    @property
    def adapter(self) -> Path:
        """A directory that peft loads as it is."""
        return self.directory / "adapter"

    @property
    def data(self) -> Path:
        """Training rows the stage wrote."""
        return self.directory / "data.jsonl"

    @property
    def replies(self) -> Path:
        """What an endpoint answered; beside the stage's folder, so that it outlives a change of the stage's settings."""
        return self.directory.with_name(f".{self.directory.name}.replies.jsonl")

    @property
    def labels(self) -> Path:
        """What people said of the stage's answers (`posttrain label`)."""
        return self.directory / "labels.jsonl"

    @property
    def tasks(self) -> Path:
        """Tasks the stage wrote: a diagnosis' data patch."""
        return self.directory / "data_patch.jsonl"

    @property
    def preferences(self) -> Path:
        """Preferences the stage wrote."""
        return self.directory / "preferences.jsonl"

    @property
    def diagnosis(self) -> Path:
        return self.directory / "diagnosis.json"

    @property
    def result(self) -> Path:
        """What the stage returned; written just before the manifest."""
        return self.directory / "result.json"

    @property
    def manifest(self) -> Path:
        """Written last: its presence means that the stage is complete."""
        return self.directory / "manifest.json"


@dataclass(frozen=True)
class RunPaths:
    """What a run leaves in its folder."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def recipe(self) -> Path:
        """The resolved recipe, as it was run."""
        return self.root / "recipe.yaml"

    @property
    def lineage(self) -> Path:
        return self.root / "lineage.json"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    def stage(self, stage_id: str) -> StagePaths:
        if not STAGE_ID.fullmatch(stage_id):
            raise ValueError(f"{stage_id!r} is not a stage id: letters, digits, '-' and '_', at most one '/' after a round")
        return StagePaths(self.root / stage_id)
