"""From a recipe file to a Recipe.

read -> rounds unrolled -> short forms written out -> scale merged -> `--set` applied -> paths made absolute -> settings
checked, stage by stage -> the recipe checked as a whole. Every error names the line that was written.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from posttrain.core.config import STAGE_KINDS, Recipe, Stage
from posttrain.core.errors import UserError
from posttrain.pipeline import order, tree
from posttrain.pipeline.overrides import apply_overrides, apply_scale, choose_scale
from posttrain.pipeline.references import absolute_path, absolute_paths
from posttrain.pipeline.rounds import unroll
from posttrain.pipeline.tree import Section, Series, nearest
from posttrain.pipeline.validate import combined, expand, plain, read_settings

ROUND = re.compile(r"round-\d+")
PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Document:
    """A recipe and the sections of the file it was read from, for the place of what is wrong with it."""

    recipe: Recipe
    top: Section
    stages: Sequence[Section]
    source: str
    """How the recipe was asked for: a name or a path."""

    def locate(self, index: int, *keys: str | int) -> tuple[str, str]:
        """The place and dotted path of a setting of stage `index`, as far down as the file goes."""
        section: Any = self.stages[index]
        place, path = section.place, section.path
        for key in keys:
            if isinstance(section, Section) and isinstance(key, str):
                place, path, section = section.at(key) or place, f"{path}.{key}", section.get(key)
            elif isinstance(section, Series) and isinstance(key, int) and key < len(section):
                place, path, section = section.places[key], f"{path}[{key}]", section[key]
            else:
                break
        return place, path


def shipped() -> dict[str, Path]:
    """The recipes that come with posttrain, by name."""
    folder = resources.files("posttrain") / "recipes"
    return {Path(str(entry)).stem: Path(str(entry)) for entry in sorted(folder.iterdir(), key=str) if entry.name.endswith(".yaml")}


def find(path_or_name: str) -> Path:
    """The file of a recipe given by path or by the name of a shipped one."""
    known = shipped()
    if path_or_name in known:
        return known[path_or_name]
    path = Path(path_or_name).expanduser()
    if path.exists() or path.suffix in (".yaml", ".yml") or "/" in path_or_name:
        return path
    near = nearest(path_or_name, list(known))
    fix = f"Did you mean {near}?" if near else f"Recipes: {', '.join(known)}. A file is given by its path."
    raise UserError(f"there is no recipe {path_or_name!r}.", fix=fix)


def load_recipe(path_or_name: str, *, scale: str | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """A checked recipe. Without `scale`, the first scale the recipe declares is taken."""
    return load_document(path_or_name, scale=scale, overrides=overrides).recipe


def load_document(path_or_name: str, *, scale: str | None = None, overrides: Sequence[str] = ()) -> Document:
    """A checked recipe and where each of its settings stands."""
    path = find(path_or_name)
    top = tree.read(path)
    listed = _stages(top, path.name)
    for position, entry in enumerate(listed):
        _own_id(entry, position, listed.places[position])
    stages = unroll(listed)
    for stage in stages:
        expand(stage)
    chosen = choose_scale(top, scale)
    executor = apply_scale(top, stages, chosen)
    for stage in stages:
        expand(stage)
    apply_overrides(top, stages, overrides)
    for stage in stages:
        expand(stage)
    top.pop("scales", None)
    return _checked(top, stages, path, path_or_name, scale=chosen, executor=executor)


def load_resolved(path: Path) -> Recipe:
    """The recipe.yaml of a run: unrolled, merged and complete, so nothing is left to choose."""
    top = tree.read(path)
    scale, executor = str(top.pop("scale", "")), str(top.pop("executor", "local"))
    stages = list(_stages(top, path.name))
    for index, stage in enumerate(stages):
        if not isinstance(stage, Section):
            raise UserError(
                f"stages[{index}] is not a stage.",
                place=f"{path.name}:1",
                fix="The file was edited: start a new run of the recipe.",
            )
    return _checked(top, stages, path, str(path), scale=scale, executor=executor).recipe


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every setting written out; `load_resolved` reads it back as the same recipe."""
    value = {field.name: plain(getattr(recipe, field.name)) for field in dataclasses.fields(recipe) if field.name != "stages"}
    value["stages"] = [{"id": stage.id, "kind": stage.kind, **plain(stage.config)} for stage in recipe.stages]
    return to_yaml(value)


def to_yaml(value: Any) -> str:
    yaml = YAML()
    yaml.width = 120
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml.indent(mapping=2, sequence=4, offset=2)
    buffer = io.StringIO()
    yaml.dump(value, buffer)
    return buffer.getvalue()


def _stages(top: Section, file: str) -> Series:
    stages = top.get("stages")
    if not isinstance(stages, Series) or not stages:
        what = "is missing" if "stages" not in top else "is empty or not a list"
        raise UserError(
            f"stages {what}.", place=top.at("stages") or f"{file}:1", fix="Begin with `stages: [{id: start, kind: evaluate, ...}]`."
        )
    return stages


def _own_id(entry: Any, position: int, place: str) -> None:
    """Refuse ids that a person must not write: missing ones, paths, and the names of rounds."""
    repeat = entry.get("repeat") if isinstance(entry, Section) else None
    if isinstance(repeat, Section) and isinstance(repeat.get("stages"), Series):
        for inner, stage in enumerate(repeat["stages"]):
            _own_id(stage, inner, repeat["stages"].places[inner])
        return
    if not isinstance(entry, Section) or "repeat" in entry:
        return  # unroll says what is wrong
    if "id" not in entry:
        raise UserError(f"{entry.path or f'stages[{position}]'} has no id.", place=place, fix="Add `id:`, a name for the stage.")
    name = entry["id"]
    if not isinstance(name, str) or not PLAIN_ID.fullmatch(name) or ROUND.fullmatch(name):
        text = f"{entry.name('id')} is {name!r}; an id becomes a folder."
        raise UserError(
            text, place=entry.at("id"), fix="Use letters, digits, '-' and '_' (quoted if it looks like a number), and not round-N."
        )


def _checked(top: Section, stages: Sequence[Section], path: Path, source: str, *, scale: str, executor: str) -> Document:
    base = path.resolve().parent
    found: list[UserError] = []
    read: list[Stage] = []
    absolute_path(top, "model", base)
    for stage in stages:
        absolute_paths(stage, base)
        try:
            read.append(_stage(stage))
        except UserError as error:
            found.append(error)
    head = Section("", top.place)
    for key, value in top.items():
        if key != "stages":
            head.put(key, [value] if key == "differs" and isinstance(value, str) else value, top.at(key))
    head.put("stages", [], top.at("stages"))
    for key in ("scale", "executor"):  # only a run's own recipe.yaml has these, and load_resolved took them out
        if key in head:
            found.append(
                UserError(
                    f"{key} is not a setting of a recipe.", place=head.at(key), fix="Declare `scales:` and choose one with --scale."
                )
            )
            del head[key]
    try:
        recipe = read_settings(Recipe, head, "a recipe")
    except UserError as error:
        found.insert(0, error)
    if found:
        raise combined(found)
    recipe = dataclasses.replace(recipe, stages=tuple(read), scale=scale, executor=executor)  # type: ignore[arg-type]  # checked by apply_scale
    document = Document(recipe, top, stages, source)
    order.verify(recipe, document.locate)
    return document


def _stage(section: Section) -> Stage:
    kind = section.get("kind")
    if kind not in STAGE_KINDS:
        text = (
            f"{section.path} has no kind" if kind is None else f"{section.name('kind')} is {kind!r}, which is not a kind of stage"
        )
        near = nearest(str(kind), list(STAGE_KINDS))
        raise UserError(
            f"{text}.", place=section.at("kind"), fix=f"Did you mean {near}?" if near else f"Kinds: {', '.join(STAGE_KINDS)}."
        )
    settings = Section(section.path, section.place)
    for key, value in section.items():
        if key not in ("id", "kind"):
            settings.put(key, value, section.at(key))
    return Stage(id=section["id"], config=read_settings(STAGE_KINDS[kind], settings, f"kind {kind!r}"))
