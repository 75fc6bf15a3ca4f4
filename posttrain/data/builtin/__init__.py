"""Our own task sets: seeded, sliced, train and test apart by construction, with demonstrations.

    tasks("arithmetic", split="test", count=200, seed=0, options={"operations": ["add"], "digits": [2]})
    demonstrations("arithmetic", split="train", count=1000, seed=0, options={"style": "think_answer"})

A set is a table of options and a function that draws one problem. Which split a problem belongs to is decided by a hash of
the problem itself, so no seed, count or option can move it to the other side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.types import Conversation, Task
from posttrain.data.builtin import (
    almanac,
    arithmetic,
    derivations,
    dialogue,
    guardrail,
    human_eval,
    instructions,
    lookup,
    needle,
    retrieval,
    shop,
    strings,
    word_problems,
)
from posttrain.data.builtin.layouts import INSTRUCTIONS, STYLES, demonstration, task
from posttrain.data.builtin.problems import Problem, TaskSet, chosen, draw

SETS: dict[str, TaskSet] = {
    "arithmetic": arithmetic.SET,
    "word_problems": word_problems.SET,
    "lookup": lookup.SET,
    "needle": needle.SET,
    "strings": strings.SET,
    "dialogue": dialogue.SET,
    "derivations": derivations.SET,
    "retrieval": retrieval.SET,
    "guardrail": guardrail.SET,
    "instructions": instructions.SET,
    "shop": shop.SET,
    "almanac": almanac.SET,
}

__all__ = ["SETS", "Problem", "TaskSet", "demonstrations", "problems", "tasks"]


def tasks(
    name: str, *, split: str = "train", count: int = 256, seed: int = 0, options: Mapping[str, Any] | None = None
) -> list[Task]:
    """`count` different tasks of one split. Raises UserError for an unknown set, option or value, and where the options
    leave fewer different problems than asked for."""
    options = dict(options or {})
    if name == human_eval.NAME:
        return human_eval.tasks(split=split, count=count, options=options)
    if "style" in options:
        raise UserError("option style is for demonstrations; tasks have none.", fix="Use instruction to ask for a layout.")
    instruction = one_of(name, "instruction", options.pop("instruction", None))
    return [
        task(name, split, problem, instruction) for problem in problems(name, split=split, count=count, seed=seed, options=options)
    ]


def demonstrations(
    name: str, *, split: str = "train", count: int = 256, seed: int = 0, options: Mapping[str, Any] | None = None
) -> list[Conversation]:
    """The same problems with a right answer, laid out by option `style`. Raises as `tasks` does."""
    options = dict(options or {})
    style = one_of(name, "style", options.pop("style", None))
    instruction = one_of(name, "instruction", options.pop("instruction", None))
    found = problems(name, split=split, count=count, seed=seed, options=options)
    return [demonstration(name, split, problem, instruction, style) for problem in found]


def problems(name: str, *, split: str, count: int, seed: int, options: Mapping[str, Any]) -> list[Problem]:
    task_set = SETS.get(name)
    if task_set is None:
        raise UserError(f"there is no built-in set {name!r}.", fix=did_you_mean(name, (*SETS, human_eval.NAME)))
    if split not in ("train", "test"):
        raise UserError(f"split is {split!r}.", fix=did_you_mean(str(split), ("train", "test")))
    unknown = [option for option in options if option not in task_set.options]
    if unknown:
        known = (*task_set.options, "instruction", "style")
        raise UserError(f"{unknown[0]} is not an option of builtin:{name}.", fix=did_you_mean(str(unknown[0]), known))
    picked = {option: chosen(name, option, options.get(option), table) for option, table in task_set.options.items()}
    return draw(task_set, picked, split=split, count=count, seed=seed)


def one_of(name: str, option: str, value: Any) -> str:
    """The style or instruction asked for, or the set's default. An instruction can only ask for a style that the set has."""
    styles = SETS[name].styles if name in SETS else tuple(STYLES)
    if option == "style" and not styles:
        raise UserError(f"builtin:{name} has tasks and no demonstrations.", fix="Its tasks are played in an environment.")
    known = styles if option == "style" else ("none", *(layout for layout in INSTRUCTIONS if layout in styles))
    if value is None:
        return known[0]
    if value not in known:
        raise UserError(f"option {option} of builtin:{name} is {value!r}.", fix=did_you_mean(str(value), known))
    return str(value)
