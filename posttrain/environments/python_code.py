"""Python as a tool: the model's program runs in the sandbox, and what it printed is what the model reads.

Every program is a process of its own: nothing is kept from one call to the next. Without a sandbox that works on this machine
there is no tool: SandboxUnavailable says what to install.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from posttrain.core.config import PythonTool
from posttrain.core.types import Tool
from posttrain.environments.tools import Function
from posttrain.sandbox import Limits, Outcome, choose, run_async

MEGABYTE = 1 << 20


def python_function(config: PythonTool) -> Function:
    """Raises SandboxUnavailable here, before any episode, where nothing on this machine can contain a program."""
    choose()
    limits = Limits(wall_s=config.timeout_s, cpu_s=max(1, math.ceil(config.timeout_s)), memory_bytes=config.memory_mb * MEGABYTE)
    tool = Tool(
        "python",
        "Run a Python program and get what it prints.",
        {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
    )

    async def call(arguments: Mapping[str, Any]) -> str:
        return told(await run_async(str(arguments["code"]), limits=limits))

    return Function(tool, call)


def told(outcome: Outcome) -> str:
    """What the model reads: what was printed, and how it went wrong where it did."""
    printed = outcome.stdout.rstrip("\n")
    if outcome.status == "ok":
        return printed or "(it printed nothing)"
    why = outcome.stderr.strip().splitlines()[-1:] or ([outcome.explanation] if outcome.explanation else [])
    return "\n".join([*([printed] if printed else []), ": ".join([outcome.status, *why])])
