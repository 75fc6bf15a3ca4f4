"""What changes a recipe from outside: a scale it declares, and `--set key=value`. Both work on the tree, before checks.

A key is dotted: `seed`, `model`, `stages.<id>.<setting>` or `<id>.<setting>`, deeper where settings nest
(`rl.kl.coefficient`, `rl.graders.0.weight`). The id of a repeated stage means that stage in every round. Mappings merge
key by key, everything else is replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from posttrain.core.errors import UserError, did_you_mean
from posttrain.pipeline.tree import Section, Series, scalar

TOP = ("name", "model", "seed", "source", "tradeoff", "differs")
SCALE_KEYS = ("model", "seed", "stages", "executor")
EXECUTORS = ("local", "cluster")


def choose_scale(top: Section, wanted: str | None) -> str:
    """The name of the scale to apply: the wanted one, else the first the recipe declares, else none."""
    scales = top.get("scales")
    if scales is None:
        scales = Section()
    if not isinstance(scales, Section):
        raise UserError(
            "scales expects a mapping from a name to its changes.",
            place=top.at("scales"),
            fix="Write `scales: {tiny: {model: ...}}`.",
        )
    _check_keys(scales)
    if wanted is None:
        return next(iter(scales), "")
    if wanted not in scales:
        known = did_you_mean(wanted, scales) if scales else "This recipe declares none: leave --scale out."
        raise UserError(f"the recipe has no scale {wanted!r}.", place=top.at("scales"), fix=known)
    return wanted


def _check_keys(scales: Section) -> None:
    """Of every declared scale, chosen or not: a mistake in another one should not wait until it is chosen."""
    for name, scale in scales.items():
        if not isinstance(scale, Section):
            raise UserError(f"scales.{name} expects a mapping.", place=scales.at(name), fix="Write `model:` or `stages:` below it.")
        for key in scale:
            if key not in SCALE_KEYS:
                raise UserError(
                    f"scales.{name}.{key} is not a key of a scale.", place=scale.at(key), fix=did_you_mean(key, SCALE_KEYS)
                )


def apply_scale(top: Section, stages: Sequence[Section], name: str) -> str:
    """Merge a declared scale into the recipe and its stages; gives the executor it asks for."""
    if not name:
        return "local"
    scale: Section = top["scales"][name]
    executor = scale.get("executor", "local")
    if executor not in EXECUTORS:
        raise UserError(
            f"scales.{name}.executor is {executor!r}.", place=scale.at("executor"), fix=did_you_mean(str(executor), EXECUTORS)
        )
    for key in ("model", "seed"):
        if key in scale:
            top.put(key, scale[key], scale.at(key))
    changes = scale.get("stages") or Section()
    if not isinstance(changes, Section):
        raise UserError(
            f"scales.{name}.stages expects a mapping from a stage's id to its changes.",
            place=scale.at("stages"),
            fix="Write `<id>: {steps: 20}`.",
        )
    for stage_id, change in changes.items():
        if not isinstance(change, Section):
            raise UserError(
                f"scales.{name}.stages.{stage_id} expects a mapping of settings.",
                place=changes.at(stage_id),
                fix="Write `{steps: 20}`.",
            )
        for stage in _stages(stages, stage_id, changes.at(stage_id)):
            _merge(stage, copy.deepcopy(change))
    return str(executor)


def apply_overrides(top: Section, stages: Sequence[Section], overrides: Sequence[str]) -> None:
    """Apply each `key=value` in order."""
    for override in overrides:
        key, equals, text = override.partition("=")
        place = f"--set {override}"
        if not equals or not key.strip():
            raise UserError("expected key=value.", place=place, fix="For example --set rl.steps=20.")
        parts = key.strip().split(".")
        if len(parts) == 1:
            if parts[0] not in TOP:
                raise UserError(
                    f"{parts[0]} is not a setting of a recipe.",
                    place=place,
                    fix=did_you_mean(parts[0], TOP) + " A stage's setting is <id>.<setting>.",
                )
            top.put(parts[0], scalar(text), place)
            continue
        stage_id, *path = parts[1:] if parts[0] == "stages" else parts
        if not path:
            raise UserError(
                f"{key} names a stage but no setting of it.", place=place, fix=f"For example --set {stage_id}.steps=20."
            )
        for stage in _stages(stages, stage_id, place):
            _set(stage, path, scalar(text), place)


def _stages(stages: Sequence[Section], stage_id: str, place: str) -> list[Section]:
    """The stages an id means: the one with that id, or the same stage in every round."""
    ids = [str(stage.get("id")) for stage in stages]
    found = [s for s, i in zip(stages, ids, strict=True) if i == stage_id]
    found = found or [s for s, i in zip(stages, ids, strict=True) if i.startswith("round-") and i.partition("/")[2] == stage_id]
    if not found:
        raise UserError(f"the recipe has no stage {stage_id!r}.", place=place, fix=did_you_mean(stage_id, ids))
    return found


def _merge(target: Section, change: Section) -> None:
    for key, value in change.items():
        if isinstance(value, Section) and isinstance(target.get(key), Section):
            _merge(target[key], value)
        else:
            target.put(key, value, change.at(key))


def _set(stage: Section, path: Sequence[str], value: Any, place: str) -> None:
    *parents, leaf = path
    holder: Any = stage
    for part in parents:
        holder = _step(holder, part, place)
    if isinstance(holder, Series):
        index = _index(holder, leaf, place)
        holder[index], holder.places[index] = value, place
    else:
        holder.put(leaf, value, place)


def _step(holder: Any, part: str, place: str) -> Any:
    if isinstance(holder, Series):
        index = _index(holder, part, place)
        key: Any = index
    else:
        if part not in holder or holder[part] is None:
            holder.put(part, Section(holder.name(part), place), place)
        key = part
    inner = holder[key]
    if not isinstance(inner, Section | Series):
        raise UserError(f"{part} is {inner!r}, which has no settings of its own.", place=place, fix="Shorten the key.")
    return inner


def _index(series: Series, part: str, place: str) -> int:
    if not part.isdigit() or int(part) >= len(series):
        raise UserError(
            f"{part!r} is no position in {series.path}, a list of {len(series)}.", place=place, fix="Positions count from 0."
        )
    return int(part)
