"""Answers that people labelled, to measure a judge against: our JSONL, and the rows inside the package pyrit.

A row of JSONL is {"prompt": a string or turns, "answer", "label": 0 to 1 or true/false, or "labels": one of each rater}; further
columns `id`, `reference`. `posttrain label` writes such files. For comparisons it is {"prompt", "answer", "other", "label"}: 1 if
`answer` is better, 0 if `other` is, 0.5 for a tie.

`pyrit:refusal`, `pyrit:harm/violence`, `pyrit:harm/hate_speech_multi_score`, ... are the human-labelled CSV files of that package
(MIT licence), read where it is installed (`pip install --no-deps pyrit`) and never copied. In them a higher score is more harm, or
a refusal: write the judge's criterion so that Yes means the same.
"""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.types import Message
from posttrain.data.files import rows
from posttrain.data.messages import read_messages

PYRIT = "pyrit:"


@dataclass(frozen=True)
class Labelled:
    """One answer and what people said of it, one value from 0 to 1 a rater."""

    id: str
    prompt: tuple[Message, ...]
    answer: str
    labels: tuple[float, ...]
    reference: str | None = None
    other: str | None = None


def read_labels(source: str) -> list[Labelled]:
    """All rows of a file, or of one of pyrit's sets. UserError names the row that is wrong."""
    found = merged(pyrit_rows(source.removeprefix(PYRIT)) if source.startswith(PYRIT) else file_rows(Path(source).expanduser()))
    if len(found) < 2:
        raise UserError(f"{source} holds {len(found)} labelled answers.", fix="Two are needed, and some two hundred to say much.")
    return found


def merged(found: Iterable[Labelled]) -> list[Labelled]:
    """Rows of one answer as one, with the labels of all: `posttrain label` writes a line a rater."""
    rows: dict[tuple[object, ...], Labelled] = {}
    for row in found:
        known = rows.get(key := (row.prompt, row.answer, row.other))
        rows[key] = row if known is None else replace(known, labels=known.labels + row.labels)
    return list(rows.values())


def file_rows(path: Path) -> Iterator[Labelled]:
    for number, row in enumerate(rows(path), 1):
        values = row.values
        given = values.get("labels", values.get("label"))
        labels = tuple(share_of(each, row.place) for each in (given if isinstance(given, list) else [given]))
        answer, other, reference = (values.get(name) for name in ("answer", "other", "reference"))
        if not isinstance(answer, str) or not isinstance(other, str | None) or not labels:
            raise UserError("needs prompt, answer and label.", place=row.place, fix="See docs/judges.md for the columns.")
        prompt = values.get("prompt")
        turns = (Message("user", prompt),) if isinstance(prompt, str) else tuple(read_messages(prompt, row.place, column="prompt"))
        shown = None if reference is None else str(reference)
        yield Labelled(str(values.get("id", f"{path.stem}-{number}")), turns, answer, labels, shown, other)


def share_of(value: Any, place: str) -> float:
    if isinstance(value, bool | int | float) and 0 <= value <= 1:
        return float(value)
    raise UserError(f"label is {value!r}; expected true, false or a number from 0 to 1.", place=place, fix="Change the label.")


def pyrit_folder() -> Path | None:
    """Where pyrit's labelled rows lie. The package is found, not imported: its dependencies need not be there."""
    package = importlib.util.find_spec("pyrit")
    places = list(package.submodule_search_locations or ()) if package else []
    folders = (Path(place) / "datasets" / "scorer_evals" for place in places)
    return next((folder for folder in folders if folder.is_dir()), None)


def pyrit_rows(name: str) -> Iterator[Labelled]:
    folder = pyrit_folder()
    if folder is None:
        raise UserError("the package pyrit is not installed.", fix="Run: pip install --no-deps pyrit")
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.csv"))}
    files |= {path.stem: path for path in folder.glob("refusal_scorer/*.csv")}
    if name not in files:
        raise UserError(f"pyrit has no labelled set {name!r}.", fix=did_you_mean(name, files))
    for number, values in table(files[name]):
        labels = [values[key] for key in sorted(values) if key.startswith("human_score") and values[key] != ""]
        if values.get("data_type", "text") == "text" and labels:
            place = f"{files[name].name}:{number}"
            numbers = tuple(share_of(number_of(label), place) for label in labels)
            yield Labelled(place, (Message("user", values["objective"]),), values["assistant_response"], numbers)


def number_of(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def table(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The rows below the header; remarks such as the set's version stand above it."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:  # some of the files were saved by a spreadsheet
        text = content.decode("cp1252", errors="replace")
    lines = [cells for cells in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in cells)]
    start = next((place for place, cells in enumerate(lines) if not cells[0].startswith("#")), 0)
    for number, cells in enumerate(lines[start + 1 :], start + 2):
        if cells:
            yield number, dict(zip(lines[start], cells, strict=False))
