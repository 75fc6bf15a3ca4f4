"""What a setting may be: its class, default and help, found from the dataclasses in core/config.

Used to say what is wrong with a setting in words a person can act on, and for nothing else.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from posttrain.core.config import EnvironmentConfig, GraderConfig, ToolConfig


def by_kind(union: Any) -> dict[str, Any]:
    """The members of a union of settings by their kind."""
    return {typing.get_type_hints(member)["kind"].__args__[0]: member for member in typing.get_args(union)}


GRADERS, ENVIRONMENTS, TOOLS = by_kind(GraderConfig), by_kind(EnvironmentConfig), by_kind(ToolConfig)


def fields_of(config: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(config)}


def hints_of(config: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(config)


def help_of(config: type[Any]) -> dict[str, str]:
    """Each setting's docstring, taken from the JSON schema that pydantic makes of them. Inherited ones included."""
    texts: dict[str, str] = {}
    for each in reversed(config.__mro__):
        if dataclasses.is_dataclass(each):
            properties = TypeAdapter(each).json_schema()["properties"]
            texts |= {name: entry["description"] for name, entry in properties.items() if "description" in entry}
    return texts


def class_at(config: type[Any], location: Sequence[int | str]) -> type[Any] | None:
    """The settings class that holds the entry at `location` of a config; None where a free mapping holds it."""
    hint: Any = config
    for step in location:
        hint = _inside(hint, step)
        if hint is None:
            return None
    choices = _choices(hint)
    return choices[0] if dataclasses.is_dataclass(choices[0]) and isinstance(choices[0], type) else None


def _inside(hint: Any, step: int | str) -> Any:
    """The type of entry `step` in a value of type `hint`."""
    choices = _choices(hint)
    if named := [choice for choice in choices if getattr(choice, "__name__", "") == step]:
        return named[0]  # pydantic names the member of a union in its locations
    hint = choices[0]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hints_of(hint).get(str(step))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Sequence, list, tuple):
        return arguments[0]
    if origin in (Mapping, dict):
        return arguments[1]
    return None


def _choices(hint: Any) -> list[Any]:
    """The members of a union but None; of anything else, itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [arg for arg in typing.get_args(hint) if arg is not types.NoneType]
    return [hint]


def default_text(config: type[Any], name: str) -> str:
    """`default 1e-4`, or nothing where a setting has no short default."""
    field = fields_of(config).get(name)
    if field is None or field.default is dataclasses.MISSING:
        return ""
    if dataclasses.is_dataclass(field.default) or field.default == ():
        return ""
    return f"default {shown(field.default)}"


def shown(value: Any) -> str:
    """A value as a person writes it in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:.6e}" if 0 < abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:g}"
        digits, mark, power = text.partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(power)}" if mark else text
    return repr(value) if isinstance(value, str) and not value else str(value)
