"""What a recipe may refer to: `base`, a stage's id, `run:<name>/<stage>`, a path, `builtin:<set>`, a model's name.

A reference stands in a role: the model to start from, a source of training rows, a source of tasks, an evaluation. A
stage produces some roles and not others, so a wrong reference is found before anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posttrain.core.config import (
    BestOfNConfig,
    DataSource,
    DiagnoseConfig,
    EvaluateConfig,
    GrpoConfig,
    SftConfig,
    StageConfig,
    TaskSource,
)
from posttrain.core.errors import UserError
from posttrain.pipeline.tree import Section, Series
from posttrain.records.files import verify
from posttrain.records.paths import RunPaths, StagePaths
from posttrain.records.summary import read_result

Role = Literal["model", "data", "tasks", "evaluation"]
PATH_MARKS = ("./", "../", "/", "~/")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Reference:
    """A reference and where it stands in its stage's settings."""

    text: str
    role: Role
    keys: tuple[str | int, ...]


def references(config: StageConfig) -> list[Reference]:
    """Every reference of a stage, in the order of its settings."""
    found: list[Reference] = []
    if isinstance(config, SftConfig | GrpoConfig | BestOfNConfig | EvaluateConfig):
        found.append(Reference(config.model, "model", ("model",)))
    if isinstance(config, SftConfig):
        found += [Reference(source.source, "data", ("data", index, "source")) for index, source in enumerate(config.data)]
    if isinstance(config, GrpoConfig | BestOfNConfig):
        found += [Reference(source.source, "tasks", ("tasks", index, "source")) for index, source in enumerate(config.tasks)]
    if isinstance(config, EvaluateConfig):
        found += [Reference(source.source, "tasks", ("suites", name, "source")) for name, source in config.suites.items()]
        if config.compare_to is not None:
            found.append(Reference(config.compare_to, "evaluation", ("compare_to",)))
    if isinstance(config, DiagnoseConfig):
        found.append(Reference(config.of, "evaluation", ("of",)))
        if config.before is not None:
            found.append(Reference(config.before, "evaluation", ("before",)))
        if config.patch is not None:
            found.append(Reference(config.patch.source, "tasks", ("patch", "source")))
    return found


def sources(config: StageConfig) -> list[DataSource | TaskSource]:
    """Every source of rows or tasks of a stage."""
    if isinstance(config, SftConfig):
        return list(config.data)
    if isinstance(config, GrpoConfig | BestOfNConfig):
        return list(config.tasks)
    if isinstance(config, EvaluateConfig):
        return list(config.suites.values())
    return [config.patch] if config.patch is not None else []


def produces(config: StageConfig) -> frozenset[Role]:
    """The roles a later stage can use this stage in."""
    if isinstance(config, SftConfig | GrpoConfig):
        return frozenset({"model"})
    if isinstance(config, BestOfNConfig):
        return frozenset({"data"})
    if isinstance(config, EvaluateConfig):
        return frozenset({"evaluation"})
    return frozenset({"tasks", "data"}) if config.patch is not None else frozenset()


def is_path(text: str) -> bool:
    return text.startswith(PATH_MARKS) or text in (".", "..")


def is_run(text: str) -> bool:
    return text.startswith("run:")


def is_builtin(text: str) -> bool:
    return text.startswith("builtin:")


def absolute_path(section: Section, key: str, base: Path) -> None:
    value = section.get(key)
    if isinstance(value, str) and is_path(value):
        start = Path.cwd() if section.at(key).startswith("--set") else base
        section[key] = str((start / Path(value).expanduser()).resolve())


def absolute_paths(section: Section, base: Path) -> None:
    """Make the paths in a stage's section absolute: relative to the recipe's folder, or to here if set by `--set`."""
    for key in ("model", "source", "path"):
        absolute_path(section, key, base)
    for inner in section.values():
        for part in inner if isinstance(inner, Series) else [inner]:
            if isinstance(part, Section):
                absolute_paths(part, base)


def run_stage(text: str, runs: Path) -> StagePaths:
    """The folder of a finished stage that `run:<name>/<stage>` names."""
    name, slash, stage_id = text.removeprefix("run:").partition("/")
    if not slash or not name or name.startswith("."):
        raise UserError(f"{text!r} does not name a stage of a run.", fix="Write run:<name>/<stage>.")
    try:
        paths = RunPaths(runs / name).stage(stage_id)
    except ValueError as error:
        raise UserError(f"{text!r}: {error}.", fix="Write run:<name>/<stage>.") from None
    if not (runs / name).is_dir():
        known = sorted(path.name for path in runs.iterdir() if (path / "recipe.yaml").exists()) if runs.is_dir() else []
        raise UserError(f"{text!r}: there is no run {name!r} in {runs}.", fix=f"Runs there: {', '.join(known) or 'none'}.")
    if not paths.manifest.is_file():
        raise UserError(f"{text!r}: that stage is not finished.", fix=f"Finish it with: posttrain resume {name}")
    return paths


def artefact(paths: StagePaths, role: Role) -> str:
    """What a finished stage offers in a role: a directory or a file."""
    if role == "evaluation":
        return str(paths.directory)
    offered = read_result(paths).artefacts
    for name in ("data", "tasks") if role == "data" else (role,):
        if name in offered:
            return str(paths.directory / offered[name])
    raise UserError(
        f"stage {paths.directory.name} wrote no {role}; it wrote {', '.join(sorted(offered)) or 'nothing'}.",
        fix="Refer to another stage.",
    )


def resolved(found: Sequence[Reference], base: str, stage_ids: Sequence[str], run: RunPaths, runs: Path) -> dict[str, str]:
    """What each reference of a stage stands for, once the stages before it are done. Names and paths stand for themselves."""
    known = {}
    for reference in found:
        text = reference.text
        target = base if text == "base" else text
        if target in stage_ids and text != "base":
            known[text] = artefact(run.stage(target), reference.role)
        elif is_run(target):
            paths = run_stage(target, runs)
            if problems := verify(paths.directory, MANIFEST):
                raise UserError(f"{target!r} is damaged: {problems[0]}.", fix="Run that stage again.")
            known[text] = artefact(paths, reference.role)
        else:
            known[text] = target
    return known
