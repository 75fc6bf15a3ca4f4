"""What a data file is, said before a run: its format, columns, size and first row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from posttrain.core.types import Example, Task
from posttrain.data.files import rows
from posttrain.data.formats import convert, detect
from posttrain.data.tasks import task_of

WHOLE = 32 * 2**20
"""Files up to this many bytes are counted; of larger ones the rows are estimated from their first SAMPLE rows."""
SAMPLE = 1000


@dataclass(frozen=True)
class Description:
    """`format` is a training format or `tasks`. `rows` is exact or, if `estimated`, from the size of the first rows."""

    path: Path
    format: str
    columns: tuple[str, ...]
    rows: int
    estimated: bool
    first: Mapping[str, Any]
    example: Example | Task


def describe(path: Path, *, layout: str = "auto", shown: str = "") -> Description:
    """Look at a file. UserError if it or its first row cannot be read; later rows are looked at by `rows` only.

    `layout` is a training format, `tasks`, or `auto`: rows with a prompt and no completion are tasks.
    """
    first = next(rows(path, shown))
    columns = first.values.keys()
    is_tasks = layout == "tasks" or (
        layout == "auto" and "prompt" in columns and not {"completion", "messages", "chosen"} & columns
    )
    chosen = "tasks" if is_tasks else detect(first) if layout == "auto" else layout
    example = task_of(first, default_id=f"{path.stem}-1") if is_tasks else convert(first, chosen)
    count, estimated = _count(path, shown)
    return Description(path, chosen, tuple(columns), count, estimated, first.values, example)


def _count(path: Path, shown: str) -> tuple[int, bool]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        return int(parquet.read_metadata(path).num_rows), False
    size = path.stat().st_size
    if size <= WHOLE or path.suffix == ".json":
        return sum(1 for _ in rows(path, shown)), False
    with path.open("rb") as file:
        lengths = [len(line) for line in islice(file, SAMPLE)]
    return round(size / (sum(lengths) / len(lengths))), True
