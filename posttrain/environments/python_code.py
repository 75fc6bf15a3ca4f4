"""Python as a tool: the model's program runs in the sandbox, and what it printed is what the model reads.

Every program is a process of its own: nothing is kept from one call to the next. Without a sandbox that works on this machine
there is no tool: SandboxUnavailable says what to install.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from posttrain.core.config import PythonTool
from posttrain.core.types import Tool
from posttrain.environments.tools import Function

MEGABYTE = 1_000_000


def python_function(config: PythonTool) -> tuple[Function, Callable[[], Awaitable[None]]]:
    tool = Tool(
        "python",
        "Run a Python program and get what it prints.",
        {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
    )

    async def call(arguments: Mapping[str, Any]) -> str:
        from posttrain import sandbox

        limits = sandbox.Limits(wall_s=config.timeout_s, memory_bytes=config.memory_mb * MEGABYTE)
        return told(await asyncio.to_thread(sandbox.run, str(arguments["code"]), limits=limits))

    async def nothing() -> None:
        """A program's sandbox ends with it."""

    return Function(tool, call), nothing


def told(outcome: Any) -> str:
    """What the model reads: what was printed, and how it went wrong where it did."""
    if outcome.status == "ok":
        return outcome.stdout.rstrip("\n") or "(it printed nothing)"
    last = outcome.stderr.strip().splitlines()[-1:]
    return "\n".join([*([outcome.stdout.rstrip("\n")] if outcome.stdout.strip() else []), f"{outcome.status}: {' '.join(last)}"])
