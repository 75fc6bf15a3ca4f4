"""A recipe file as plain values that remember where they stood.

YAML 1.2 through ruamel.yaml (YAML 1.1 reads `1e-4` as text and `on` as true). Every mapping and list knows the place
(`recipe.yaml:12`) of each of its entries, and keeps it when rounds are unrolled, a scale is merged in or a setting is
overridden; so an error found at the very end still names the line that was written.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from posttrain.core.errors import UserError

DEEPEST = 20


class Section(dict[str, Any]):
    """A mapping of the file. `place` is where it starts, `places` where each key stands, `path` its dotted name."""

    def __init__(self, path: str = "", place: str = "") -> None:
        super().__init__()
        self.path, self.place = path, place
        self.places: dict[str, str] = {}

    def put(self, key: str, value: Any, place: str) -> None:
        self[key] = value
        self.places[key] = place

    def at(self, key: str) -> str:
        """Where `key` stands, or the section where it is missing."""
        return self.places.get(key, self.place)

    def name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


class Series(list[Any]):
    """A list of the file. `places` has one entry an item."""

    def __init__(self, path: str = "", place: str = "") -> None:
        super().__init__()
        self.path, self.place = path, place
        self.places: list[str] = []

    def put(self, value: Any, place: str) -> None:
        self.append(value)
        self.places.append(place)


def read(path: Path) -> Section:
    """A YAML file whose top is a mapping."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"recipe file {path} is not there.", fix="Check the path; `posttrain recipes` lists those that come with posttrain."
        ) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a directory, not a recipe.", fix="Name the YAML file in it.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as text ({error.__class__.__name__}).", fix="Save it as UTF-8 YAML.") from error
    value = parse(text, path.name)
    if not isinstance(value, Section):
        what = "is empty" if value is None else f"holds {_what(value)}"
        raise UserError(
            f"the recipe {what}; expected `name:`, `source:`, `tradeoff:`, `model:` and `stages:`.",
            place=f"{path.name}:1",
            fix="See `posttrain recipes`.",
        )
    return value


def parse(text: str, file: str) -> Any:
    """YAML text as plain values; `file` names it in errors."""
    yaml = YAML(typ="rt")
    try:
        return _plain(yaml.load(text), file, "", f"{file}:1", 0)
    except DuplicateKeyError as error:
        mark = error.problem_mark
        message = str(error.problem).split(" with value")[0].replace("found duplicate key", "the key is given twice:")
        raise UserError(f"{message}.", place=f"{file}:{mark.line + 1}", fix="Keep one of the two.") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(str(part) for part in (error.problem, error.context) if part)
        raise UserError(
            f"not valid YAML: {problem}.",
            place=f"{file}:{mark.line + 1 if mark else 1}",
            fix="Check indentation, quotes and brackets there.",
        ) from None
    except RecursionError:
        raise UserError("nested too deeply to be read.", place=f"{file}:1", fix="Check the brackets.") from None
    except (YAMLError, ValueError) as error:
        raise UserError(
            f"not valid YAML: {str(error).splitlines()[0]}.", place=f"{file}:1", fix="Check the file's encoding and quotes."
        ) from None


def scalar(text: str) -> Any:
    """The value of `--set key=text`: what the same text would mean in the file."""
    return parse(text, "--set") if text.strip() else ""


def _plain(value: Any, file: str, path: str, place: str, depth: int) -> Any:
    if depth > DEEPEST:
        raise UserError(f"nested more than {DEEPEST} levels deep.", place=place, fix="Check the brackets there.")
    if isinstance(value, Mapping):
        section = Section(path, place)
        for key, inner in value.items():
            where = _line(value, key, file, place)
            section.put(str(key), _plain(inner, file, f"{path}.{key}" if path else str(key), where, depth + 1), where)
        return section
    if isinstance(value, (list, tuple)):
        series = Series(path, place)
        for index, inner in enumerate(value):
            where = _line(value, index, file, place)
            series.put(_plain(inner, file, f"{path}[{index}]", where, depth + 1), where)
        return series
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):  # ruamel's scalars are subclasses that carry their layout
        if isinstance(value, kind):
            return kind(value)
    return str(value)  # dates


def _line(holder: Any, key: Any, file: str, fallback: str) -> str:
    if isinstance(holder, CommentedMap) and key in (holder.lc.data or {}):
        return f"{file}:{holder.lc.key(key)[0] + 1}"
    if isinstance(holder, CommentedSeq) and key in (holder.lc.data or {}):
        return f"{file}:{holder.lc.item(key)[0] + 1}"
    return fallback


def _what(value: Any) -> str:
    return "a list" if isinstance(value, Sequence) and not isinstance(value, str) else f"one value, {value!r}"


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that was probably meant."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return near[0] if near else None
