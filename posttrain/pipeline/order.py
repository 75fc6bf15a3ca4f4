"""Rules that need the whole recipe: ids, references only to earlier stages, in roles those stages can fill.

A recipe begins by measuring the model it starts from, or nobody can say what it changed; and it says what choosing it
costs. The order of the file is the order of work: a stage can only use earlier ones, so there is nothing to sort.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from posttrain.core.config import STAGE_KINDS, DiagnoseConfig, EvaluateConfig, Recipe
from posttrain.core.config.base import Role, is_path
from posttrain.core.errors import UserError
from posttrain.pipeline.references import Reference, is_builtin, is_run, references
from posttrain.pipeline.tree import nearest
from posttrain.pipeline.validate import combined
from posttrain.records.paths import STAGE_ID

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
RESERVED = ("base", "previous", "builtin", "run")
WRITES: dict[Role, str] = {
    "model": "a model",
    "data": "training rows",
    "tasks": "tasks",
    "evaluation": "an evaluation",
    "preferences": "preferences",
    "reward_model": "a reward model",
    "adapter": "an adapter",
}

Locate = Callable[..., tuple[str, str]]
"""(stage index, *keys) -> (place in the file, dotted path)."""


def nowhere(index: int, *keys: str | int) -> tuple[str, str]:
    """Where a recipe built in Python has its settings."""
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return "", f"stages[{index}]{path}"


def problems(recipe: Recipe, locate: Locate = nowhere) -> Iterator[UserError]:
    """Everything about the recipe as a whole that cannot work."""
    if not NAME.fullmatch(recipe.name):
        yield UserError(f"name is {recipe.name!r}; it also names a folder.", fix="Use letters, digits, '.', '-' and '_'.")
    if not recipe.tradeoff.strip():
        yield UserError("tradeoff is empty.", fix="Say in a sentence what choosing this recipe costs.")
    if not recipe.stages:
        yield UserError("stages is empty.", fix="Begin with {id: start, kind: evaluate, ...}.")
        return
    first = recipe.stages[0]
    if not (isinstance(first.config, EvaluateConfig) and first.config.model == "base"):
        place, path = locate(0)
        text = f"{path} ({first.id}) is of kind {first.kind!r}; a recipe begins by evaluating `base`, to know what changed."
        yield UserError(text, place=place, fix="Put {id: start, kind: evaluate, model: base, ...} first.")
    yield from _ids(recipe, locate)
    for index, stage in enumerate(recipe.stages):
        for reference in references(stage.config):
            yield from _reference(recipe, index, reference, locate)
        yield from _suites(recipe, index, locate)


def verify(recipe: Recipe, locate: Locate = nowhere) -> None:
    """Raise what `problems` finds."""
    if found := list(problems(recipe, locate)):
        raise combined(found)


def _ids(recipe: Recipe, locate: Locate) -> Iterator[UserError]:
    seen: dict[str, str] = {}
    for index, stage in enumerate(recipe.stages):
        place, path = locate(index, "id")
        if not STAGE_ID.fullmatch(stage.id) or stage.id in RESERVED:
            why = "a word with a meaning of its own" if stage.id in RESERVED else "not a plain name, and it becomes a folder"
            yield UserError(f"{path} is {stage.id!r}, {why}.", place=place, fix="Use letters, digits, '-' and '_'.")
        elif stage.id.lower() in seen:
            fix = f"Rename one of them; the other is {seen[stage.id.lower()]}."
            yield UserError(f"{path} is {stage.id!r}, which another stage already has.", place=place, fix=fix)
        else:
            seen[stage.id.lower()] = place or path


def _reference(recipe: Recipe, index: int, reference: Reference, locate: Locate) -> Iterator[UserError]:
    text, ids = reference.text, [stage.id for stage in recipe.stages]
    place, path = locate(index, *reference.keys)
    if text == "base" and reference.role != "model":
        yield UserError(
            f"{path} is 'base', which is a model; expected {WRITES[reference.role]}.",
            place=place,
            fix=f"Refer to a stage of kind {writers(reference.role)}.",
        )
    if text == "base" or is_run(text) or is_path(text):
        return
    if is_builtin(text) and reference.role in ("data", "tasks", "preferences"):
        return
    if text not in ids:
        if reference.role in ("model", "reward_model"):
            return  # a model's name: check asks whether it is there
        near = nearest(text, ids[:index])
        fix = f"Did you mean {near}?" if near else "A file is written ./name, a built-in set builtin:name."
        yield UserError(f"{path} is {text!r}, which is no stage of this recipe.", place=place, fix=fix)
        return
    target = ids.index(text)
    if target >= index:
        yield _late(recipe, index, target, path, place)
    elif reference.role not in recipe.stages[target].config.writes():
        stage = recipe.stages[target]
        what = f"a stage of kind {stage.kind!r}" + (" without a patch" if isinstance(stage.config, DiagnoseConfig) else "")
        text = f"{path} is {text!r}, {what}, which writes no {WRITES[reference.role].removeprefix('a ').removeprefix('an ')}."
        yield UserError(text, place=place, fix=f"Refer to a stage of kind {writers(reference.role)}.")


def writers(role: Role) -> str:
    """The kinds of stage that can fill a role, for an error."""
    kinds = [kind for kind, config in STAGE_KINDS.items() if role in config.roles]
    named = [f"{kind} (with a patch)" if kind == DiagnoseConfig.kind else kind for kind in kinds]
    return " or ".join([", ".join(named[:-1]), named[-1]] if named[:-1] else named)


def _late(recipe: Recipe, index: int, target: int, path: str, place: str) -> UserError:
    ids = [stage.id for stage in recipe.stages]
    if cycle := _cycle(recipe, target, index):
        chain = " -> ".join([ids[index], *cycle])
        return UserError(f"{path} closes a cycle: {chain}.", place=place, fix="Let one of them use `base` or an earlier stage.")
    return UserError(
        f"{path} is {ids[target]!r}, which comes later; a stage can only use earlier ones.",
        place=place,
        fix=f"Move {ids[target]} up.",
    )


def _cycle(recipe: Recipe, start: int, goal: int) -> list[str]:
    """The stages from `start` back to `goal` by what each refers to, or nothing."""
    ids = [stage.id for stage in recipe.stages]
    waiting, seen = [[start]], {start}
    while waiting:
        trail = waiting.pop()
        if trail[-1] == goal:
            return [ids[step] for step in trail]
        for reference in references(recipe.stages[trail[-1]].config):
            following = ids.index(reference.text) if reference.text in ids else None
            if following is not None and (following not in seen or following == goal):
                seen.add(following)
                waiting.append([*trail, following])
    return []


def _suites(recipe: Recipe, index: int, locate: Locate) -> Iterator[UserError]:
    """Suites have plain names, and two evaluations can be compared only where they share one."""
    config, ids = recipe.stages[index].config, [stage.id for stage in recipe.stages]
    for name in config.suites if isinstance(config, EvaluateConfig) else ():
        if not NAME.fullmatch(name):
            place, path = locate(index, "suites", name)
            yield UserError(f"{path}: a suite's name also names files.", place=place, fix="Use letters, digits, '.', '-' and '_'.")
    pair: Sequence[tuple[str, str]] = ()
    if isinstance(config, EvaluateConfig) and config.compare_to in ids:
        pair = [("compare_to", ids[index]), ("compare_to", str(config.compare_to))]
    if isinstance(config, DiagnoseConfig) and config.before in ids and config.of in ids:
        pair = [("before", config.of), ("before", str(config.before))]
    for (key, one), (_, other) in pairwise(pair):
        left, right = (recipe.stages[ids.index(each)].config for each in (one, other))
        if isinstance(left, EvaluateConfig) and isinstance(right, EvaluateConfig) and not set(left.suites) & set(right.suites):
            place, path = locate(index, key)
            yield UserError(
                f"{path} is {other!r}, which has no suite in common with {one!r}.",
                place=place,
                fix="Give both a suite of the same name.",
            )
