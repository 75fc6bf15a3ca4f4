"""lineage.json: for each stage what went in, by fingerprint, and what came out; the seed and the versions that made it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.core.config import Recipe
from posttrain.pipeline.fingerprint import parents
from posttrain.records.files import write_json
from posttrain.records.paths import RunPaths
from posttrain.records.summary import read_json, read_result

PACKAGES = ("posttrain", "torch", "transformers", "tokenizers", "safetensors", "math-verify")


def write_lineage(run: RunPaths, recipe: Recipe, fingerprints: Mapping[str, str], finished: Mapping[str, str], runs: Path) -> None:
    """Rewrite the run's lineage. `finished` maps the id of each done stage to when it was done (ISO 8601)."""
    stages = []
    for stage in recipe.stages:
        entry: dict[str, Any] = {
            "id": stage.id,
            "kind": stage.kind,
            "meaning": stage.config.meaning,
            "fingerprint": fingerprints[stage.id],
            "parents": parents(stage, recipe, fingerprints, runs),
        }
        if stage.id in finished:
            paths = run.stage(stage.id)
            made = read_json(paths.manifest)
            artefacts = {role: f"{stage.id}/{path}" for role, path in read_result(paths).artefacts.items()}
            entry |= {"finished": finished[stage.id], "versions": made["versions"], "artefacts": artefacts}
        stages.append(entry)
    head = {
        "name": run.name,
        "recipe": recipe.name,
        "source": recipe.source,
        "scale": recipe.scale,
        "model": recipe.model,
        "seed": recipe.seed,
    }
    write_json(run.lineage, {**head, "stages": stages})


def versions() -> dict[str, str]:
    """What this process runs on, without importing any of it."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
