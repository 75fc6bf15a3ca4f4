"""A stage's surroundings without a recipe: what the Python face gives a stage's `train`.

Nothing is resumed here: a folder that holds an earlier training is refused.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from posttrain.core.config import PreferenceSource, Recipe
from posttrain.core.errors import UserError
from posttrain.core.protocols import Reporter
from posttrain.core.stage import StageContext
from posttrain.core.types import Preference
from posttrain.data.preferences import write_preferences
from posttrain.records.paths import StagePaths

GIVEN = "given in Python"
"""Stands in settings where a recipe would name a source or a model."""


class kept:
    """The folder of a training's records: the one asked for, or a temporary one that goes with the block."""

    def __init__(self, run: str | Path | None) -> None:
        self.run, self.temporary = run, None if run else tempfile.TemporaryDirectory()

    def __enter__(self) -> StagePaths:
        return StagePaths(Path(self.temporary.name) if self.temporary else Path(str(self.run)))

    def __exit__(self, *_: object) -> None:
        if self.temporary:
            self.temporary.cleanup()


@contextlib.contextmanager
def alone(kind: str, run: str | Path | None, seed: int, reporter: Reporter) -> Iterator[StageContext]:
    """What a recipe's stage of that kind would be called with. A folder that holds an earlier training is refused: it would be
    taken for one to go on with."""
    with kept(run) as paths:
        paths.directory.mkdir(parents=True, exist_ok=True)
        if any(paths.directory.iterdir()):
            raise UserError(f"{paths.directory} is not empty.", fix="Name another folder for `run`.")
        recipe = Recipe(name="python", source="", tradeoff="", model=GIVEN, stages=[])
        yield StageContext(kind, paths.directory, recipe, {}, seed, reporter)


def compared(given: str | Path | Sequence[Preference], context: StageContext) -> PreferenceSource:
    """Where a stage finds the preferences: the file, or one that is written of those in memory."""
    if isinstance(given, str | Path):
        return PreferenceSource(source=str(Path(given).expanduser().absolute()))
    file = StagePaths(context.directory).preferences
    write_preferences(file, given)
    return PreferenceSource(source=str(file))
