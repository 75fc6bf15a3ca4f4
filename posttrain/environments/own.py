"""An environment of the user's own, from a file beside the recipe. The file is run as code in this process."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posttrain.core.config import OwnEnvironment
from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.protocols import Environment
from posttrain.core.seeds import derive
from posttrain.core.types import Task


def factory(config: OwnEnvironment, base: Path) -> Callable[[Task], Environment]:
    """What `path` names, called with the task and the options. UserError for a file or a name that is not there."""
    file, colon, name = config.path.rpartition(":")
    if not colon or not name.isidentifier():
        raise UserError(f"path is {config.path!r}.", fix="Write ./my_environment.py:Name.")
    path = (base / file).resolve()
    if not path.is_file():
        raise UserError(f"the file {file} is not there.", fix="Write ./my_environment.py:Name.")
    module = loaded(path)
    make = getattr(module, name, None)
    if not callable(make):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise UserError(f"{path.name} has no class or function {name!r}.", place=path.name, fix=did_you_mean(name, known))
    return lambda task: make(task, **config.options)


def loaded(path: Path) -> Any:
    """The module of a file, run once. What it raises while it is run is the user's to mend."""
    name = f"posttrain_own_{derive(0, str(path), path.stat().st_mtime_ns)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path.name} is no Python file.", fix="Give a .py file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code
        del sys.modules[name]
        raise UserError(f"it raises {type(error).__name__}: {error}.", place=path.name, fix="Mend the file.") from error
    return module
