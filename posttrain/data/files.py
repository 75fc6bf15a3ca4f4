"""Files -> raw rows, streamed: JSONL, JSON, CSV and Parquet. Every error names the file and the line.

A row is a dict of plain values that are really there: a null is the same as a missing column, because Parquet writes nulls
where JSON leaves keys out. For Parquet the line is the row's number, counted from 1.

A `.json` file that begins with `{` is read as JSONL, which many tools write under that name; one that begins with `[` is read
whole into memory. NaN and infinity are refused everywhere: they are a broken export, not data.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from posttrain.core.errors import UserError, did_you_mean


@dataclass(frozen=True, slots=True)
class Row:
    """One raw row and where it stands (`train.jsonl:4318`)."""

    place: str
    values: Mapping[str, Any]


def rows(path: Path, shown: str = "") -> Iterator[Row]:
    """All rows of a file, in order, without holding them. `shown` is the file's name in messages."""
    name = shown or str(path)
    count = 0
    try:
        reader = READERS[_checked(path, name)]
        for row in reader(path, name):
            count += 1
            yield row
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror or error}.", place=name, fix="Check the path and its permissions."
        ) from error
    if not count:
        raise UserError("the file is empty; expected at least one row.", place=name, fix="Check what wrote it.")


def shown_name(path: Path, base: Path) -> str:
    """A file's name as people know it: relative to the recipe's folder where it lies below it."""
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _checked(path: Path, name: str) -> str:
    """The file's extension, or an error that says what is wrong with the path."""
    if path.is_dir():
        inside = sorted(child.name for child in path.iterdir() if child.suffix in READERS)
        fix = f"Name a file in it: {', '.join(inside[:5])}." if inside else f"Name a file ({', '.join(READERS)})."
        raise UserError("is a directory; expected a file.", place=name, fix=fix)
    if not path.exists():
        beside = [child.name for child in path.parent.iterdir()] if path.parent.is_dir() else []
        near = did_you_mean(path.name, beside)
        fix = near if near.startswith("Did you mean") else f"Looked in {path.parent.absolute()}."
        raise UserError("there is no such file.", place=name, fix=fix)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise UserError(
            f"has the unknown extension {path.suffix or '(none)'!r}; expected one of {', '.join(READERS)}.",
            place=name,
            fix="Convert the file, or rename it to what it is.",
        )
    return suffix


def _jsonl(path: Path, name: str) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{name}:{number}"
            text = _decoded(_without_mark(line, number), name, number)
            if not text.strip():
                continue
            try:
                value = _DECODER.decode(text)
            except (ValueError, RecursionError) as error:
                raise _bad_json(error, text, place) from error
            yield Row(place, _row(value, place))


def _json(path: Path, name: str) -> Iterator[Row]:
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if start == b"{":
        yield from _jsonl(path, name)
        return
    if start not in (b"[", b""):
        raise UserError(
            "does not begin with [ or {; expected an array of objects, or one object a line.",
            place=f"{name}:1",
            fix="Rewrite it as JSONL.",
        )
    text = _decoded(_without_mark(path.read_bytes(), 1), name, 1)
    for line, value in _elements(text, name):
        place = f"{name}:{line}"
        yield Row(place, _row(value, place))


def _elements(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """(line, element) of a JSON array, decoded one by one so that errors have a line."""
    position, line = text.find("[") + 1, 1 + text.count("\n", 0, text.find("[") + 1)
    first = True
    while text:
        start = _skip_space(text, position)
        if not first and text[start : start + 1] == ",":
            start = _skip_space(text, start + 1)
        elif not first and text[start : start + 1] not in ("]", ""):
            raise _half("a comma between rows is missing", f"{name}:{line + text.count(chr(10), position, start)}")
        line += text.count("\n", position, start)
        if text[start : start + 1] == "]":
            return
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise _bad_json(error, "", f"{name}:{line}") from error
        yield line, value
        line += text.count("\n", start, end)
        position, first = end, False


def _csv(path: Path, name: str) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    with path.open("rb") as file:
        lines = (_decoded(_without_mark(line, number), name, number) for number, line in enumerate(file, start=1))
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) != len(header):
                raise UserError(f"names a column twice: {', '.join(header)}.", place=f"{name}:1", fix="Rename one.")
            before = reader.line_num
            for cells in reader:
                # A row that spans lines stands where it begins.
                place, before = f"{name}:{before + 1}", reader.line_num
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise UserError(
                        f"has {len(cells)} cells; expected {len(header)} ({', '.join(header)}).",
                        place=place,
                        fix="Quote cells that hold commas or line breaks.",
                    )
                yield Row(place, dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise UserError(f"is not valid CSV: {error}.", place=f"{name}:{reader.line_num}", fix="Quote the cell.") from error


def _parquet(path: Path, name: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    number += 1
                    place = f"{name}:{number}"
                    if _has_non_finite(value):
                        raise _not_finite(place)
                    yield Row(place, _row(value, place))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowException, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"is not a readable Parquet file: {first}.", place=name, fix="Write it again.") from error


READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}


class _NotFinite(ValueError):
    pass


def _constant(_: str) -> NoReturn:
    raise _NotFinite


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotFinite
    return value


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_number)


def _row(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f"is {_kind(value)}; expected an object with named columns.",
            place=place,
            fix="Write one {…} for each row (an array of rows is .json).",
        )
    return {key: cell for key, cell in value.items() if cell is not None}


def _decoded(data: bytes, name: str, line: int) -> str:
    """Bytes that begin on this line, as text."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        lines = data[: error.start].split(b"\n")
        raise UserError(
            f"byte {len(lines[-1]) + 1} of the line ({data[error.start]:#04x}) is not UTF-8.",
            place=f"{name}:{line + len(lines) - 1}",
            fix="Save the file as UTF-8.",
        ) from error


def _without_mark(data: bytes, line: int) -> bytes:
    """Bytes without the byte order mark that some editors write first."""
    return data.removeprefix(codecs.BOM_UTF8) if line == 1 else data


def _bad_json(error: Exception, text: str, place: str) -> UserError:
    if isinstance(error, _NotFinite):
        return _not_finite(place)
    if isinstance(error, json.JSONDecodeError):
        what = error.msg.removesuffix(" at")
        cut = text and (error.pos >= len(text.rstrip()) - 1 or what.startswith("Unterminated"))
        return _half("the line is cut off" if cut else f"{what} at column {error.colno}", place)
    return UserError("is nested too deeply to be a row.", place=place, fix="Check what wrote it.")


def _half(what: str, place: str) -> UserError:
    return UserError(f"is not complete JSON: {what}; expected one object.", place=place, fix="Remove or repair the row.")


def _not_finite(place: str) -> UserError:
    return UserError("holds NaN or an infinite number; expected finite numbers.", place=place, fix="Use null or remove the row.")


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_has_non_finite(inner) for inner in value.values())
    return isinstance(value, list) and any(_has_non_finite(inner) for inner in value)


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\r", "\n") and position < len(text):
        position += 1
    return position


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)
