"""What a stage's result depends on, as one hash: a finished stage with the same fingerprint is not run again.

It covers the stage's kind and the version of that kind's meaning, its id (randomness is keyed by it), its settings, the
seed, and what goes in: earlier stages by their fingerprints, files and model directories by their content, names as they
are. Not the settings that only move memory or checkpoints about. A training stage that is checked against the recipe's
evaluation sets also depends on those that are files; built-in sets keep train and test apart by themselves.
Assumes that a model's name always means the same weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.core.config import EvaluateConfig, Recipe, Stage
from posttrain.core.config.base import is_path
from posttrain.core.errors import UserError
from posttrain.pipeline.references import MANIFEST, is_run, references, run_stage
from posttrain.pipeline.validate import plain
from posttrain.records.files import MANIFEST as COMMITTED
from posttrain.records.files import sha256
from posttrain.records.summary import read_json

NEUTRAL = ("micro_batch_tokens", "checkpoint_every", "keep_checkpoints")


def fingerprints(recipe: Recipe, runs: Path) -> dict[str, str]:
    """The fingerprint of each stage, by id. Reads the files the recipe names, and nothing that a stage has yet to write."""
    done: dict[str, str] = {}
    for stage in recipe.stages:
        done[stage.id] = _hash(_parts(stage, recipe, done, runs))
    return done


def parents(stage: Stage, recipe: Recipe, done: Mapping[str, str], runs: Path) -> dict[str, str]:
    """Each reference of a stage -> the fingerprint of what it stands for; for lineage.json too."""
    return {reference.text: _of(reference.text, recipe, done, runs) for reference in references(stage.config)}


def _parts(stage: Stage, recipe: Recipe, done: Mapping[str, str], runs: Path) -> dict[str, Any]:
    settings = {key: value for key, value in plain(stage.config).items() if key not in NEUTRAL}
    inputs = parents(stage, recipe, done, runs)
    for grader in settings.get("graders", ()):
        if "path" in grader:
            file, _, function = grader["path"].rpartition(":")
            inputs[f"grader:{function}"] = _content(Path(file))
    if getattr(stage.config, "decontaminate", False):
        for other in recipe.stages:
            for source in other.config.suites.values() if isinstance(other.config, EvaluateConfig) else ():
                if is_path(source.source):
                    inputs[f"suite:{source.source}"] = _content(Path(source.source))
    named = {text: fingerprint for text, fingerprint in inputs.items() if not is_path(text)}
    files = sorted(fingerprint for text, fingerprint in inputs.items() if is_path(text))  # a moved file is the same file
    return {
        "kind": stage.kind,
        "meaning": stage.config.meaning,
        "id": stage.id,
        "seed": recipe.seed,
        "settings": _without_paths(settings),
        "inputs": named,
        "files": files,
    }


def _of(text: str, recipe: Recipe, done: Mapping[str, str], runs: Path) -> str:
    if text in done:
        return done[text]
    if text == "base":
        return _of(recipe.model, recipe, {}, runs)
    if is_run(text):
        return str(read_json(run_stage(text, runs).directory / MANIFEST)["fingerprint"])
    if is_path(text):
        return _content(Path(text))
    return text


def _content(path: Path) -> str:
    """The hash of a file or of a directory's files; a directory we committed has the hashes in its manifest already."""
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        raise UserError(f"{path} is not there.", fix="Check the path.")
    if (path / COMMITTED).is_file():
        return _hash(read_json(path / COMMITTED)["files"])
    return _hash({str(file.relative_to(path)): sha256(file) for file in sorted(path.rglob("*")) if file.is_file()})


def _without_paths(value: Any) -> Any:
    """Settings with each path replaced by its last part: a folder that was moved changes nothing."""
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and is_path(value) else value


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()).hexdigest()
