"""A Python function as a grader in this process, for scripts and notebooks.

What it raises or returns wrongly is an error grade, as everywhere. It cannot be killed when it hangs; a recipe's
`kind: function` runs the same function in a process that can.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from posttrain.core.config import FunctionGrader
from posttrain.core.types import Grade, Task
from posttrain.graders.combine import Part


def part(function: Callable[[Task, str], Any]) -> Part:
    """Wrap f(task, answer) -> float, bool or Grade, sync or async."""
    name = getattr(function, "__name__", "function")

    async def judge(task: Task, text: str, written: int | None) -> Grade:
        try:
            value = function(task, text)
            return as_grade(await value if inspect.isawaitable(value) else value)
        except Exception as error:  # the border of graders: a user's function may raise anything
            return Grade.error(f"{name} raised {type(error).__name__}: {error}")

    return Part(name, FunctionGrader(path=f"python:{name}"), judge)


def as_grade(value: Any) -> Grade:
    if isinstance(value, Grade):
        return value
    if isinstance(value, bool):
        return Grade(float(value), value)
    if isinstance(value, int | float) and math.isfinite(value):
        return Grade(float(value))
    return Grade.error(f"a grader must return a finite number, a bool or a Grade, not {value!r}")
