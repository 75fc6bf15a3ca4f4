"""The JSON schema of a recipe file, for editors: `# yaml-language-server: $schema=recipe.schema.json` completes and checks.

Made from the settings' dataclasses, so it cannot drift from them; their docstrings are the descriptions.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from posttrain.core.config import STAGE_KINDS, Recipe
from posttrain.pipeline.overrides import EXECUTORS
from posttrain.pipeline.settings import help_of

ID = {
    "type": "string",
    "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$",
    "description": "Name of the stage, unique in the recipe; also its folder.",
}
SHORT = {"data": "source", "tasks": "source", "graders": "kind"}
"""Lists that may be written as one entry, and entries as a bare string."""


def schema() -> dict[str, Any]:
    """The schema of what `posttrain run FILE` reads."""
    definitions: dict[str, Any] = {}
    kinds = [_kind(kind, definitions) for kind in STAGE_KINDS]
    top = TypeAdapter(Recipe).json_schema()["properties"]
    properties = {name: entry for name, entry in top.items() if name not in ("scale", "executor", "stages")}
    repeat = {
        "type": "object",
        "description": "Stages of one round, run `times` times; `previous/<id>` is the round before.",
        "properties": {"times": {"type": "integer", "minimum": 1}, "stages": {"type": "array", "items": {"anyOf": kinds}}},
        "required": ["times", "stages"],
        "additionalProperties": False,
    }
    repeated = {"type": "object", "properties": {"repeat": repeat}, "required": ["repeat"], "additionalProperties": False}
    changes = {
        "type": "object",
        "additionalProperties": {"type": "object"},
        "description": "Settings to change, by the stage's id.",
    }
    scale = {
        "type": "object",
        "properties": {
            "model": properties["model"],
            "seed": properties["seed"],
            "stages": changes,
            "executor": {"enum": list(EXECUTORS)},
        },
        "additionalProperties": False,
    }
    properties |= {
        "stages": {"type": "array", "items": {"anyOf": [*kinds, repeated]}, "minItems": 1, "description": "The steps, in order."},
        "scales": {
            "type": "object",
            "additionalProperties": scale,
            "description": "Named variants; the first is taken if none is chosen.",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "posttrain recipe",
        "type": "object",
        "properties": properties,
        "required": ["name", "source", "tradeoff", "model", "stages"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _kind(kind: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """One kind of stage, with `id` and `kind` beside its settings, and the short forms allowed."""
    entry: dict[str, Any] = TypeAdapter(STAGE_KINDS[kind]).json_schema(ref_template="#/$defs/{model}")
    for name, definition in entry.pop("$defs", {}).items():
        definitions[name] = definition
        if name.endswith(("Grader", "Environment", "Tool")):  # told apart by `kind`, which a recipe must write
            definition["required"] = sorted({*definition.get("required", ()), "kind"})
    settings = entry["properties"]
    for name, text in help_of(STAGE_KINDS[kind]).items():  # pydantic finds no docstrings of inherited settings
        settings[name]["description"] = text
    for name in set(SHORT) & set(settings):
        item = {"anyOf": [{"type": "string"}, settings[name]["items"]]}
        settings[name] = {**settings[name], "type": ["array", "string", "object"], "items": item}
    if "suites" in settings:
        settings["suites"]["additionalProperties"] = {"anyOf": [{"type": "string"}, settings["suites"]["additionalProperties"]]}
    entry["properties"] = {"id": ID, "kind": {"const": kind}, **settings}
    entry["required"] = ["id", "kind", *entry.get("required", ())]
    return entry
