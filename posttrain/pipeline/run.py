"""Run a recipe: stage after stage, skipping what is finished, resuming what is not.

A stage is finished when its manifest is there, was written for the same fingerprint and matches its files. An unfinished
stage of the same fingerprint is called again with the same folder and goes on from its last checkpoint. A stage whose
settings changed is not overwritten: its folder moves to `.old/`. Results are recorded in this order: the stage's
artefacts, result.json, manifest.json (now it is finished), then lineage.json and summary.json of the run.
"""

from __future__ import annotations

import datetime
import importlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from posttrain.core.config import Recipe, Stage, StageConfig
from posttrain.core.errors import EnvironmentFailed, Interrupted, PosttrainError, UserError
from posttrain.core.imports import quick_imports
from posttrain.core.protocols import Reporter, Silent
from posttrain.core.stage import StageContext, StageResult, Stop
from posttrain.pipeline import order
from posttrain.pipeline.fingerprint import fingerprints
from posttrain.pipeline.lineage import versions, write_lineage
from posttrain.pipeline.lock import locked
from posttrain.pipeline.parse import dump, load_resolved, to_yaml
from posttrain.pipeline.references import MANIFEST, references, resolved
from posttrain.pipeline.validate import plain
from posttrain.records.events import append_event, read_events
from posttrain.records.files import tidy, verify, write_atomic, write_manifest
from posttrain.records.paths import RunPaths, StagePaths
from posttrain.records.summary import Result, RunSummary, StageSummary, Status, read_json, read_result, write_result, write_summary

Run = Callable[[StageConfig, StageContext], StageResult]
UNHASHED = ("checkpoints",)
"""Below a finished stage: needed to resume, not part of the result."""


@dataclass
class Progress:
    """The state of one call of `run`: what is known of each stage."""

    run: RunPaths
    runs: Path
    recipe: Recipe
    prints: Mapping[str, str]
    stages: list[StageSummary]
    finished: dict[str, str] = field(default_factory=dict)

    def record(self, index: int, status: Status, overall: Status, wall_s: float = 0.0, result: Result | None = None) -> None:
        """Note what became of a stage and rewrite summary.json and, once something is finished, lineage.json."""
        stage = self.stages[index]
        if result is not None:
            config = self.recipe.stages[index].config
            model = f"{stage.id}/{result.artefacts['model']}" if "model" in result.artefacts else getattr(config, "model", "")
            stage = replace(stage, wall_s=result.wall_s, model=model, evaluations=result.evaluations)
            self.finished[stage.id] = read_json(self.run.stage(stage.id).manifest)["finished"]
        elif wall_s:
            stage = replace(stage, wall_s=wall_s)
        self.stages[index] = replace(stage, status=status)
        if status == "done":
            write_lineage(self.run, self.recipe, self.prints, self.finished, self.runs)
        write_summary(self.run, self.summary(overall))

    def summary(self, status: Status) -> RunSummary:
        wall_s = round(sum(stage.wall_s for stage in self.stages), 3)
        return RunSummary(self.run.name, self.recipe.name, self.recipe.model, status, wall_s, list(self.stages))


def run(
    recipe: Recipe,
    runs: Path,
    *,
    name: str | None = None,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
    kinds: Mapping[str, Run] | None = None,
    report: Callable[[Path], Path] | None = None,
) -> RunSummary:
    """Run a recipe in `runs/<name>` and say how it went. `report` is called with the run's folder at the end, however it ends.

    Raises UserError, PromiseBroken, EnvironmentFailed or Interrupted; summary.json then says `failed` or `stopped`.
    """
    reporter = reporter if reporter is not None else Silent()
    stop = stop if stop is not None else Stop()  # an unset Stop is false
    order.verify(recipe)
    if recipe.executor == "cluster":
        raise UserError(
            f"scale {recipe.scale!r} asks for a cluster, for which there is no executor yet.", fix="Choose another --scale."
        )
    if not order.NAME.fullmatch(name or recipe.name):
        raise UserError(
            f"the run's name {name!r} is not a plain name, and it becomes a folder.", fix="Use letters, digits, '.', '-' and '_'."
        )
    paths = RunPaths(runs.absolute() / (name or recipe.name))
    _claim(paths, recipe)
    prints = fingerprints(recipe, runs)
    with locked(paths):
        write_atomic(
            paths.recipe, "# The recipe as it was run, every setting written out. `posttrain resume` reads it.\n" + dump(recipe)
        )
        progress = Progress(paths, runs, recipe, prints, [StageSummary(stage.id, stage.kind) for stage in recipe.stages])
        try:
            for index in range(len(recipe.stages)):
                _advance(progress, index, reporter, stop, kinds)
        finally:
            if report is not None and progress.finished:
                _report(report, paths, reporter)
        return progress.summary("done")


def resume(name: str, runs: Path, **options: Any) -> RunSummary:
    """Go on with a run that was stopped, with the recipe it began with."""
    return run(load_run(name, runs), runs, name=name, **options)


def load_run(name: str, runs: Path) -> Recipe:
    """The recipe of an existing run."""
    paths = RunPaths(runs / name)
    if not order.NAME.fullmatch(name) or not paths.recipe.is_file():
        known = sorted(path.name for path in runs.iterdir() if RunPaths(path).recipe.exists()) if runs.is_dir() else []
        raise UserError(
            f"there is no run {name!r} in {runs}.",
            fix=f"Runs there: {', '.join(known) or 'none'}. Start one with: posttrain run RECIPE",
        )
    return load_resolved(paths.recipe)


def _claim(paths: RunPaths, recipe: Recipe) -> None:
    """Refuse a folder that holds something else than an earlier call of this run."""
    if not paths.root.exists():
        return
    if not paths.root.is_dir():
        raise UserError(
            f"{paths.root} is a file; the run needs a folder of that name.", fix="Choose --name OTHER, or another --runs."
        )
    if not paths.recipe.is_file():
        if any(path.name != paths.lock.name for path in paths.root.iterdir()):
            raise UserError(f"{paths.root} exists and is not a run of posttrain.", fix="Choose --name OTHER, or another --runs.")
        return
    before = load_resolved(paths.recipe)
    for what, old, new in (("recipe", before.name, recipe.name), ("scale", before.scale, recipe.scale)):
        if old != new:
            text = f"{paths.root} holds a run of {what} {old or 'none'!r}, not {new or 'none'!r}."
            raise UserError(text, fix=f"Choose --name OTHER, or delete {paths.root} if you no longer need it.")


def _advance(progress: Progress, index: int, reporter: Reporter, stop: Stop, kinds: Mapping[str, Run] | None) -> None:
    """Bring one stage to its end, or find that it is there."""
    stage, total = progress.recipe.stages[index], len(progress.recipe.stages)
    paths, fingerprint = progress.run.stage(stage.id), progress.prints[stage.id]
    label = f"[{index + 1}/{total}] {stage.id} ({stage.kind})"
    overall: Status = "done" if index + 1 == total else "running"
    if _finished(paths, fingerprint, reporter):
        reporter.say(f"{label}: finished before, skipped")
        progress.record(index, "done", overall, result=read_result(paths))
        return
    if stop:
        progress.record(index, "waiting", "stopped")
        raise Interrupted(
            f"stopped before stage {stage.id}.", signal=stop.signal, fix=f"Go on with: posttrain resume {progress.run.name}"
        )
    resuming = _prepare(paths, stage, fingerprint, progress.recipe, reporter)
    reporter.say(f"{label}: {'resuming' if resuming else 'starting'}")
    progress.record(index, "running", "running")
    before = sum(float(event.get("wall_s", 0)) for event in read_events(paths.events) if event["event"] in ("stopped", "failed"))
    began = time.monotonic()
    append_event(paths.events, "resumed" if resuming else "started", fingerprint=fingerprint)
    try:
        known = resolved(references(stage.config), progress.recipe.model, list(progress.finished), progress.run, progress.runs)
        context = StageContext(stage.id, paths.directory, progress.recipe, known, progress.recipe.seed, reporter, stop)
        outcome = _function(stage.kind, kinds)(stage.config, context)
        wall_s = before + time.monotonic() - began
        result = _finish(paths, stage, fingerprint, outcome, round(wall_s, 3))
    except BaseException as error:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        _failed(progress, index, paths, error, "stopped" if stopped else "failed", time.monotonic() - began)
        raise
    progress.record(index, "done", overall, result=result)
    reporter.say(f"{label}: done in {_duration(result.wall_s)}")


def _finished(paths: StagePaths, fingerprint: str, reporter: Reporter) -> bool:
    """Is the stage complete, made from the same inputs and settings, and undamaged?"""
    if not paths.manifest.is_file():
        return False
    if damage := verify(paths.directory, MANIFEST):
        reporter.say(f"{paths.directory.name} is damaged and runs again: {damage[0]}")
        return False
    return bool(read_json(paths.manifest)["fingerprint"] == fingerprint)


def _prepare(paths: StagePaths, stage: Stage, fingerprint: str, recipe: Recipe, reporter: Reporter) -> bool:
    """Make the stage's folder ready; True if there is work in it to go on from."""
    tidy(paths.directory)
    if paths.config.is_file() and not paths.manifest.is_file() and _begun(paths) == fingerprint:
        return True
    if paths.directory.exists() and any(paths.directory.iterdir()):
        aside = _aside(RunPaths(_root(paths, stage)), stage.id)
        aside.parent.mkdir(parents=True, exist_ok=True)
        paths.directory.rename(aside)
        reporter.say(f"{stage.id}: made from other settings or inputs; the earlier result is kept in {aside}")
    head = {"fingerprint": fingerprint, "id": stage.id, "kind": stage.kind, "seed": recipe.seed}
    write_atomic(paths.config, to_yaml({**head, **plain(stage.config)}))
    return False


def _begun(paths: StagePaths) -> str:
    """The fingerprint a stage was begun with, from the first line of its config.yaml."""
    first = paths.config.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return first.removeprefix("fingerprint: ").strip()


def _root(paths: StagePaths, stage: Stage) -> Path:
    return paths.directory.parents[stage.id.count("/")]


def _aside(run: RunPaths, stage_id: str) -> Path:
    folder = run.root / ".old"
    number = 1
    while (folder / f"{stage_id.replace('/', '.')}-{number}").exists():
        number += 1
    return folder / f"{stage_id.replace('/', '.')}-{number}"


def _function(kind: str, kinds: Mapping[str, Run] | None) -> Run:
    """The work of a kind. Loaded here, because it brings torch with it."""
    if kinds is not None:
        return kinds[kind]
    with quick_imports():
        found: Run = importlib.import_module(f"posttrain.stages.{kind}").run
    return found


def _finish(paths: StagePaths, stage: Stage, fingerprint: str, outcome: StageResult, wall_s: float) -> Result:
    """Record what a stage returned; with the manifest in place it is finished."""
    artefacts = {}
    for role, path in outcome.artefacts.items():
        if not path.exists() or not path.resolve().is_relative_to(paths.directory.resolve()):
            raise ValueError(f"stage {stage.id} returned {role} at {path}, which is not inside {paths.directory}")
        artefacts[role] = path.resolve().relative_to(paths.directory.resolve()).as_posix()
    result = Result(stage.id, stage.kind, wall_s, artefacts, outcome.summary, outcome.evaluations)
    append_event(paths.events, "finished", wall_s=wall_s)
    write_result(paths, result)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_manifest(paths.directory, paths.manifest, skip=UNHASHED, fingerprint=fingerprint, finished=now, versions=versions())
    return result


def _failed(progress: Progress, index: int, paths: StagePaths, error: BaseException, status: Status, wall_s: float) -> None:
    """Record a stage's end without a result. The records may be what failed, so this must not hide the error."""
    try:
        append_event(paths.events, status, wall_s=round(wall_s, 3), error=str(error) or error.__class__.__name__)
        progress.record(index, status, status, wall_s)
    except (OSError, PosttrainError, json.JSONDecodeError) as second:
        error.add_note(f"Its end could not be recorded either: {second}")


def _report(report: Callable[[Path], Path], paths: RunPaths, reporter: Reporter) -> None:
    """Write the report. A report that fails costs nobody the run it is about."""
    try:
        reporter.say(f"report: {report(paths.root)}")
    except (EnvironmentFailed, UserError, OSError) as error:
        reporter.say(f"no report could be written ({error}). Try later: posttrain report {paths.name}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
