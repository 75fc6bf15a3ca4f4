"""What the built-in sets share: a problem, its options, drawing without replacement, and the split by hash."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.seeds import derive
from posttrain.core.types import Role

TEST_SHARE = 5  # one problem in five is a test problem

Choice = str | int
Picked = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its answer. `key` is its canonical form: what is the same problem in other words or another order has
    the same key. `steps` is a short derivation that ends before the answer; `equation` the question worked as equations, where it
    is one, and `expression` what a calculator would be asked. `history` is what was said before, as (role, text); `reply` a whole
    right reply where the answer alone is none. Problems of one `family` are all on one side of the split; without one, each is a
    family of its own."""

    key: str
    question: str
    answer: str
    steps: str
    slices: Mapping[str, str]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    equation: str = ""
    history: tuple[tuple[Role, str], ...] = ()
    reply: str = ""
    family: str = ""
    expression: str = ""


@dataclass(frozen=True)
class Option:
    """Values an option may have, and those it has if it is not given."""

    allowed: tuple[Choice, ...]
    default: tuple[Choice, ...]


@dataclass(frozen=True)
class TaskSet:
    """`grader` is the kind of grader that its answers are written for; `styles` the layouts a demonstration may have, the
    first one if none is asked for."""

    name: str
    grader: str
    options: Mapping[str, Option]
    problem: Callable[[random.Random, Picked], Problem]
    styles: tuple[str, ...] = ("think_answer", "answer_only", "boxed")


def chosen(name: str, option: str, value: Any, table: Option) -> tuple[Choice, ...]:
    """One value or a list of them, checked; the default where none is given."""
    if value is None:
        return table.default
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not values:
        raise UserError(f"option {option} of builtin:{name} is empty.", fix=f"Choose from {', '.join(map(str, table.allowed))}.")
    for item in values:
        if item not in table.allowed or isinstance(item, bool):
            fix = did_you_mean(str(item), [str(known) for known in table.allowed])
            raise UserError(f"option {option} of builtin:{name} has the value {item!r}.", fix=fix)
    return tuple(dict.fromkeys(values))


def split_of(name: str, key: str) -> str:
    return "test" if int(digest(name, key), 16) % TEST_SHARE == 0 else "train"


def digest(name: str, key: str) -> str:
    return hashlib.blake2b(f"{name}\x1f{key}".encode(), digest_size=8).hexdigest()


def draw(task_set: TaskSet, picked: Picked, *, split: str, count: int, seed: int) -> list[Problem]:
    """`count` different problems of one split, in an order fixed by the seed.

    Draws until there are enough. When draws keep repeating what is there already, the space is exhausted: for a space drawn
    evenly, the chance that one problem is still hidden after that many misses is below 1e-8.
    """
    random_stream = random.Random(derive(seed, "builtin", task_set.name, split))
    found: dict[str, Problem] = {}
    misses = 0
    while len(found) < count:
        problem = task_set.problem(random_stream, picked)
        if problem.key not in found and split_of(task_set.name, problem.family or problem.key) == split:
            found[problem.key] = problem
            misses = 0
            continue
        misses += 1
        if misses > 500 + 100 * len(found):
            options = ", ".join(f"{option}: {list(values)}" for option, values in picked.items())
            raise UserError(
                f"builtin:{task_set.name} has only about {len(found)} different {split} problems with {options}; "
                f"{count} were asked for.",
                fix=f"Set count to {len(found)} or less, or allow more options." if found else "Allow more options.",
            )
    return list(found.values())
