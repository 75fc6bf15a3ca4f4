"""From settings to a factory of environments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.core.config import EnvironmentConfig
from posttrain.core.protocols import EnvironmentFactory


async def nothing() -> None:
    """The end of a factory that holds nothing."""


@dataclass(frozen=True)
class Prepared:
    """A factory, ready to make environments, and what ends all that they share (a pool, a server)."""

    make: EnvironmentFactory
    aclose: Callable[[], Awaitable[None]] = nothing


ENVIRONMENTS: dict[str, Callable[[Any, Path], Prepared]] = {}
"""How each kind is prepared: (settings, folder that relative paths start from) -> Prepared. Checks files and settings and raises
UserError; starts no process and opens no port, because `check` calls it too."""


def build(config: EnvironmentConfig, *, base: Path) -> Prepared:
    """The factory that a stage's settings ask for. Raises UserError for files and settings that cannot work."""
    return ENVIRONMENTS[config.kind](config, base)
