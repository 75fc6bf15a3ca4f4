"""result.json of a stage, summary.json and lineage.json of a run: small plain data, for programs.

summary.json is `{name, recipe, model, status, wall_s, stages: [{id, kind, status, wall_s, model, evaluations}]}` and is
rewritten after every stage, so a program that watches a run reads one file. lineage.json says where each artefact came
from: fingerprints, parents, versions, seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from posttrain.core.errors import UserError
from posttrain.records.files import write_json
from posttrain.records.paths import RunPaths, StagePaths

Status = Literal["waiting", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class StageSummary:
    """One stage in summary.json. `model` is the directory it wrote, relative to the run, or the one it measured."""

    id: str
    kind: str
    status: Status = "waiting"
    wall_s: float = 0.0
    model: str = ""
    evaluations: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSummary:
    name: str
    recipe: str
    model: str
    status: Status
    wall_s: float
    stages: Sequence[StageSummary]


@dataclass(frozen=True)
class Result:
    """result.json: what a finished stage returned. `artefacts` maps a role to a path inside the stage's folder."""

    id: str
    kind: str
    wall_s: float
    artefacts: Mapping[str, str]
    summary: Mapping[str, Any]
    evaluations: Mapping[str, Any] = field(default_factory=dict)


def write_result(paths: StagePaths, result: Result) -> None:
    write_json(paths.result, asdict(result))


def read_result(paths: StagePaths) -> Result:
    return Result(**read_json(paths.result))


def write_summary(paths: RunPaths, summary: RunSummary) -> None:
    write_json(paths.summary, asdict(summary))


def read_summary(paths: RunPaths) -> RunSummary:
    value = read_json(paths.summary)
    return RunSummary(**{**value, "stages": [StageSummary(**stage) for stage in value["stages"]]})


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run, or a UserError that says which run is not one."""
    if not path.is_file():
        raise UserError(f"{path} is not there", fix=f"Check that {path.parent} is a run of posttrain.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error})", fix="Run the recipe again; finished stages are kept.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object", fix="Run the recipe again; finished stages are kept.")
    return value
