"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posttrain.core.errors import UserError

Runs = Annotated[Path, typer.Option("--runs", envvar="POSTTRAIN_RUNS", help="Folder that holds the runs.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the run; the recipe's name if not given.")]
Scale = Annotated[str | None, typer.Option("--scale", help="A scale the recipe declares; its first one if not given.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: seed=1, rl.steps=20, rl.kl.coefficient=0.1. Repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]

RUNS = Path("runs")


def stage_folder(text: str, runs: Path, kind: str | None = None) -> Path:
    """The folder of a stage given as RUN/STAGE, as RUN (its last stage of `kind`), or as a path."""
    from posttrain.core.config.base import is_path

    path = Path(text).expanduser()
    if not (is_path(text) or (path / "config.yaml").is_file() or (path / "recipe.yaml").is_file()):
        path = runs / text.removeprefix("run:")
    if (path / "config.yaml").is_file():
        return path
    if not (path / "recipe.yaml").is_file():
        known = sorted(each.parent.name for each in runs.glob("*/recipe.yaml"))
        raise UserError(
            f"{text!r} is neither a run nor a stage of one in {runs}.",
            fix=f"Runs there: {', '.join(known) or 'none'}. Give RUN or RUN/STAGE.",
        )
    return stages_of(path, kind)[-1]


def stages_of(run: Path, kind: str | None = None) -> list[Path]:
    """The folders of a run's finished stages of a kind, in order."""
    from posttrain.records.paths import RunPaths
    from posttrain.records.summary import read_summary

    stages = [stage for stage in read_summary(RunPaths(run)).stages if stage.status == "done" and kind in (None, stage.kind)]
    if not stages:
        raise UserError(
            f"run {run.name} has no finished stage{f' of kind {kind}' if kind else ''}.",
            fix=f"Finish it with: posttrain resume {run.name}",
        )
    return [RunPaths(run).stage(stage.id).directory for stage in stages]


def model_reference(text: str) -> str:
    """A model given on the command line: a directory that is there may be written without `./`."""
    from posttrain.core.config.base import is_path
    from posttrain.pipeline.models import KNOWN
    from posttrain.pipeline.references import is_run

    path = Path(text).expanduser()
    return str(path.resolve()) if text not in KNOWN and not is_run(text) and (is_path(text) or path.exists()) else text
