"""Where a recipe's rows and tasks come from: a file, an earlier stage's file, a built-in set."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from posttrain.core.config import DataSource
from posttrain.core.errors import UserError
from posttrain.core.types import Example
from posttrain.data import builtin
from posttrain.data.files import READERS, Row, rows, shown_name
from posttrain.data.formats import convert, detect
from posttrain.data.mix import mix

BUILTIN = "builtin:"
DEMONSTRATIONS = 1000
"""How many demonstrations a built-in set gives where `count` is not set: built-in sets have no end."""


def examples(sources: Sequence[DataSource], *, references: Mapping[str, str], base: Path, seed: int) -> Iterator[Example]:
    """Training rows of all sources, mixed by weight (data/mix.py), streamed. Duplicates are still in.

    `references` maps a stage's id to the JSONL file it wrote; relative paths are taken from `base`. Sources that cannot be
    read are refused here, bad rows when they are reached.
    """
    streams = [_stream(source, references, base, seed) for source in sources]
    return mix(streams, [source.weight for source in sources], seed=seed)


def resolve(source: str, references: Mapping[str, str], base: Path) -> Path:
    """The file a source stands for. UserError if it looks like a stage that is not there."""
    if source in references:
        return Path(references[source])
    path = base / source
    if not path.exists() and "/" not in source and Path(source).suffix not in READERS:
        near = difflib.get_close_matches(source, references, n=1)
        known = f"Known stages with data: {', '.join(sorted(references)) or 'none'}; write ./{source} for a file."
        raise UserError(f"source {source!r} is neither a file nor a stage.", fix=f"Did you mean {near[0]}?" if near else known)
    return path


def _stream(source: DataSource, references: Mapping[str, str], base: Path, seed: int) -> Iterator[Example]:
    if source.source.startswith(BUILTIN):
        if source.format not in ("auto", "messages"):
            raise UserError(
                f"source {source.source!r} has format {source.format!r}.", fix="Remove the format: built-in sets need none."
            )
        name, count = source.source.removeprefix(BUILTIN), source.count or DEMONSTRATIONS
        return iter(builtin.demonstrations(name, split="train", count=count, seed=seed, options=source.options))
    if source.options:
        raise UserError(f"source {source.source!r} has options, which only built-in sets read.", fix="Remove them.")
    path = resolve(source.source, references, base)
    return read_examples(path, layout=source.format, count=source.count, shown=shown_name(path, base))


def read_examples(path: Path, *, layout: str = "auto", count: int | None = None, shown: str = "") -> Iterator[Example]:
    """One file's rows as examples. The first row is read at once, so that a wrong file is refused before work begins."""
    raw = rows(path, shown)
    first = next(raw)
    chosen = detect(first) if layout == "auto" else layout
    return _converted(first, raw, chosen, count)


def _converted(first: Row, rest: Iterator[Row], layout: str, count: int | None) -> Iterator[Example]:
    yield convert(first, layout)
    for number, row in enumerate(rest, start=1):
        if number == count:
            return
        yield convert(row, layout)
