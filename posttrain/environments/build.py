"""From settings to a factory of environments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.core.config import (
    CalculatorTool,
    EnvironmentConfig,
    EpisodeConfig,
    OwnEnvironment,
    PythonTool,
    SearchTool,
    ShopEnvironment,
    SqlTool,
    ToolConfig,
    ToolsEnvironment,
)
from posttrain.core.protocols import EnvironmentFactory
from posttrain.core.tools import CALCULATOR
from posttrain.environments import calculator, own, python_code, search, tables
from posttrain.environments.tools import Function, Toolbox

Close = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """The end of what holds nothing."""


@dataclass(frozen=True)
class Prepared:
    """A factory, ready to make environments, and what ends all that they share (a pool, a server)."""

    make: EnvironmentFactory
    aclose: Close = nothing


def prepare_tools(config: ToolsEnvironment, base: Path) -> Prepared:
    found = [TOOLS[tool.kind](tool, base) for tool in config.tools]
    functions = [function for function, _ in found]

    async def aclose() -> None:
        for _, close in found:
            await close()

    return Prepared(lambda task: Toolbox(functions), aclose)


def prepare_own(config: OwnEnvironment, base: Path) -> Prepared:
    return Prepared(own.factory(config, base))


def prepare_shop(config: ShopEnvironment, base: Path) -> Prepared:
    from posttrain.environments.web import environment  # a web server and its client, which no other kind needs

    return Prepared(*environment.factory(config))


def prepare_adapter(config: EpisodeConfig, base: Path) -> Prepared:
    from posttrain.environments import adapters  # and with it another package

    return Prepared(adapters.factory(config))


def calculator_tool(config: CalculatorTool, base: Path) -> tuple[Function, Close]:
    return Function(CALCULATOR, calculator.calculate), nothing


def python_tool(config: PythonTool, base: Path) -> tuple[Function, Close]:
    return python_code.python_function(config), nothing


def search_tool(config: SearchTool, base: Path) -> tuple[Function, Close]:
    return search.search_function(config, base), nothing


def sql_tool(config: SqlTool, base: Path) -> tuple[Function, Close]:
    function, database = tables.sql_function(config, base)
    return function, lambda: asyncio.to_thread(database.close)


TOOLS: dict[str, Callable[[Any, Path], tuple[Function, Close]]] = {
    "calculator": calculator_tool,
    "python": python_tool,
    "search": search_tool,
    "sql": sql_tool,
}
"""How each kind of tool is prepared: (settings, folder that relative paths start from) -> what the model may call, and its end."""

ENVIRONMENTS: dict[str, Callable[[Any, Path], Prepared]] = {
    "tools": prepare_tools,
    "own": prepare_own,
    "shop": prepare_shop,
    "gymnasium": prepare_adapter,
    "openenv": prepare_adapter,
    "textarena": prepare_adapter,
    "reasoning_gym": prepare_adapter,
    "bfcl": prepare_adapter,
}
"""How each kind is prepared: (settings, folder that relative paths start from) -> Prepared. Checks files and settings and raises
UserError or EnvironmentFailed; leaves no process and opens no port, because `check` calls it too."""


def build(config: EnvironmentConfig, *, base: Path) -> Prepared:
    """The factory that a stage's settings ask for. Raises UserError for files and settings that cannot work."""
    return ENVIRONMENTS[config.kind](config, base)


def function_of(config: ToolConfig, *, base: Path) -> Function:
    """One tool alone, as tests and notebooks call it."""
    return TOOLS[config.kind](config, base)[0]
