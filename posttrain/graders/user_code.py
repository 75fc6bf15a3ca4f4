"""Inside the process of a `function` grader: load the user's file, call the function, check what it returned."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

from posttrain.core.types import Grade, Message, Task, ToolCall

Reply = dict[str, Any]


def prepare(path: str, name: str) -> Callable[[dict[str, Any]], Reply]:
    """Run the file as a module of its own, its folder importable, and return the handler."""
    file = Path(path)
    sys.path.insert(0, str(file.parent))
    specification = importlib.util.spec_from_file_location(file.stem, file)
    if specification is None or specification.loader is None:
        raise ImportError(f"{file.name} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[file.stem] = module
    specification.loader.exec_module(module)
    function = getattr(module, name)

    def handle(request: dict[str, Any]) -> Reply:
        value = function(task_from(request["task"]), request["answer"])
        if inspect.isawaitable(value):
            value = asyncio.run(finish(value))
        return checked(value)

    return handle


async def finish(value: Any) -> Any:
    return await value


def checked(value: Any) -> Reply:
    """The value as plain data, or a complaint. Numbers of numpy and torch count as numbers."""
    if type(value).__module__.split(".")[0] in ("numpy", "torch") and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Grade):
        return {"grade": asdict(value)}
    if isinstance(value, bool):
        return {"grade": asdict(Grade(float(value), value))}
    if isinstance(value, Real):
        number = float(value)
        if math.isfinite(number):
            return {"grade": asdict(Grade(number))}
        return {"complaint": f"returned {number}; a score must be finite"}
    return {"complaint": f"returned {type(value).__name__} ({str(value)[:60]!r}); expected a float, a bool or a Grade"}


def task_from(data: dict[str, Any]) -> Task:
    messages = []
    for message in data["messages"]:
        calls = tuple(ToolCall(**call) for call in message["tool_calls"])
        messages.append(Message(**{**message, "tool_calls": calls}))
    return Task(data["id"], tuple(messages), data["answer"], data["slices"], data["metadata"])
