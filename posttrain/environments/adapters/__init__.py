"""Worlds of other packages as our environments, one file each; a package is imported when its kind is asked for.

`factory(config)` makes what plays a task, `tasks(config, ...)` writes tasks for it: `posttrain environments tasks` puts them into
a file that a recipe then names. ADAPTERS lists the kinds, with the package that each needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from posttrain.core.errors import UserError
from posttrain.core.protocols import EnvironmentFactory
from posttrain.core.types import Task

ADAPTERS = {
    "gymnasium": ("gymnasium", "pip install gymnasium"),
    "openenv": ("openenv", "pip install openenv"),
    "textarena": ("textarena", "pip install textarena"),
    "reasoning_gym": ("reasoning_gym", "pip install reasoning-gym"),
    "bfcl": ("bfcl_eval", "pip install --no-deps bfcl-eval"),
}
"""Kind -> the package it needs, and how to get it. bfcl-eval pins versions of many packages that its multi-turn part never uses."""


def factory(config: Any) -> EnvironmentFactory:
    """What makes episodes. Raises UserError where the package is missing or cannot do what the settings ask."""
    package(config.kind)
    make: Callable[[Any], EnvironmentFactory] = adapter(config.kind).factory
    return make(config)


def tasks(config: Any, *, split: str, count: int, seed: int) -> list[Task]:
    """`count` tasks of one split for these settings; train and test share none. Raises UserError as `factory` does."""
    package(config.kind)
    write: Callable[..., list[Task]] = adapter(config.kind).tasks
    return write(config, split=split, count=count, seed=seed)


def adapter(kind: str) -> ModuleType:
    return importlib.import_module(f"posttrain.environments.adapters.{kind}")


def package(kind: str) -> ModuleType:
    """The package that an adapter needs. Raises UserError, with the command that installs it."""
    name, command = ADAPTERS[kind]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"environment {kind!r} needs the package {name} ({error}).", fix=f"Run `{command}`.") from error
