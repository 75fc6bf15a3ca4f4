"""What a recipe may refer to: `base`, a stage's id, `run:<name>/<stage>`, a path, `builtin:<set>`, a model's name.

A reference stands in a role: the model to start from, a source of training rows, a source of tasks, an evaluation. A
stage produces some roles and not others, so a wrong reference is found before anything runs.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.core.config import STAGE_KINDS, StageConfig
from posttrain.core.config.base import Refers, Role, is_path
from posttrain.core.errors import UserError
from posttrain.pipeline.tree import Section, Series
from posttrain.records.files import verify
from posttrain.records.paths import RunPaths, StagePaths
from posttrain.records.summary import read_result

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Reference:
    """A reference and where it stands in its stage's settings."""

    text: str
    role: Role
    keys: tuple[str | int, ...]


def references(config: StageConfig) -> list[Reference]:
    """Every reference of a stage, in the order of its settings: each setting marked with `Refers`, wherever it stands."""
    return [Reference(value, role, keys) for value, role, keys in _marked(config, ())]


Keys = tuple[str | int, ...]


def _marked(settings: Any, keys: Keys) -> Iterator[tuple[str, Role, Keys]]:
    hints = _hints(type(settings))
    for field in dataclasses.fields(settings):
        role = _role(hints[field.name])
        for inner, path in _parts(getattr(settings, field.name), (*keys, field.name)):
            if dataclasses.is_dataclass(inner):
                yield from _marked(inner, path)
            elif role and isinstance(inner, str):
                yield inner, role, path


def reference_settings() -> tuple[dict[str, Role], tuple[str, ...]]:
    """The settings, of all kinds together, that hold one reference, with its role, and those that hold a list of references or
    sources."""
    single: dict[str, Role] = {}
    several: dict[str, None] = {}
    for config in STAGE_KINDS.values():
        for name, hint in _hints(config).items():
            listed = typing.get_origin(hint) is Sequence
            inner = typing.get_args(hint)[0] if listed else hint
            role = _role(hint)
            if role and not listed:
                single[name] = role
            elif role or (listed and dataclasses.is_dataclass(inner) and "source" in _hints(inner)):
                several[name] = None
    return single, tuple(several)


def inner_settings(settings: Any, keys: Keys = ()) -> Iterator[tuple[Any, Keys]]:
    """Every settings object inside a stage's settings, such as its sources and graders, and where it stands."""
    for field in dataclasses.fields(settings):
        for inner, path in _parts(getattr(settings, field.name), (*keys, field.name)):
            if dataclasses.is_dataclass(inner):
                yield inner, path
                yield from inner_settings(inner, path)


def _parts(value: Any, keys: Keys) -> Iterator[tuple[Any, Keys]]:
    """A value itself, or the entries of a list or mapping, each with where it stands."""
    if isinstance(value, Mapping):
        yield from ((inner, (*keys, name)) for name, inner in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from ((inner, (*keys, index)) for index, inner in enumerate(value))
    else:
        yield value, keys


def _hints(settings: Any) -> dict[str, Any]:
    return typing.get_type_hints(settings, include_extras=True)


def _role(hint: Any) -> Role | None:
    """The role a setting's type is marked with, also where it is optional or a list."""
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Refers):
            return mark.role
    return next((role for inner in typing.get_args(hint) if (role := _role(inner))), None)


def is_run(text: str) -> bool:
    return text.startswith("run:")


def is_builtin(text: str) -> bool:
    return text.startswith("builtin:")


def absolute(value: str, place: str, base: Path) -> str:
    """A path relative to the recipe's folder, or to here if set by `--set`, as an absolute one without links."""
    start = Path.cwd() if place.startswith("--set") else base
    try:
        return os.path.realpath(start / Path(value).expanduser())
    except (ValueError, RuntimeError) as error:  # a null byte; ~ of nobody
        raise UserError(f"{value!r} is no path: {str(error).rstrip('.')}.", place=place, fix="Write another.") from error


def absolute_path(section: Section, key: str, base: Path) -> None:
    value = section.get(key)
    if isinstance(value, str) and is_path(value):
        section[key] = absolute(value, section.at(key), base)


def absolute_paths(section: Section, base: Path) -> None:
    """Make the paths in a stage's section absolute: relative to the recipe's folder, or to here if set by `--set`."""
    single, several = reference_settings()
    for key in (*single, "model", "source", "path", "corpus", "database", "calibration"):
        absolute_path(section, key, base)
    for key in several:
        listed = section.get(key)
        if not isinstance(listed, Series):
            continue
        for index, value in enumerate(listed):
            if isinstance(value, str) and is_path(value):
                listed[index] = absolute(value, listed.places[index], base)
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
