"""A resolved recipe as a person would write it: without what is at its default."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from posttrain.core.config import Recipe
from posttrain.pipeline.validate import plain


def shortened(recipe: Recipe) -> dict[str, Any]:
    """Plain data for YAML: everything that was chosen, nothing that was not."""
    top = {key: value for key, value in _short(recipe).items() if key != "stages"}
    stages = [{"id": stage.id, "kind": stage.kind, **_short(stage.config)} for stage in recipe.stages]
    return {**top, "stages": stages}


def _short(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {}
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            if inner != default or field.name == "kind":
                found[field.name] = _short(inner)
        return found
    if isinstance(value, Mapping):
        return {str(key): _short(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_short(inner) for inner in value]
    return plain(value)
