"""From the tree of a file to settings, and from pydantic's errors to ours.

An error names the place, the setting by its path, its value, what is allowed, the nearest name and one fix. Validation is
strict: `steps: "5"` and `learning_rate: true` are refused rather than guessed. It runs in pydantic's JSON mode, where
strict still reads a whole number as a float and a mapping as a dataclass.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from posttrain.core.errors import UserError
from posttrain.pipeline.settings import ENVIRONMENTS, GRADERS, TOOLS, class_at, default_text, fields_of, help_of
from posttrain.pipeline.tree import Section, Series, nearest

T = TypeVar("T")
LISTS = ("data", "tasks", "graders", "preferences", "ptx")

WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "dataclass_type": "a mapping of settings",
    "dataclass_exact_type": "a mapping of settings",
    "iterable_type": "a list",
}


def expand(stage: Section) -> None:
    """Write short forms out: a bare source, a bare grader, one entry where a list is expected."""
    for key in LISTS:
        if key not in stage:
            continue
        value = stage[key]
        if isinstance(value, str | Section):
            only = Series(stage.name(key), stage.at(key))
            only.put(value, stage.at(key))
            stage[key] = value = only
        if isinstance(value, Series):
            word = "kind" if key == "graders" else "source"
            for index, item in enumerate(value):
                value[index] = _expanded(item, word, f"{stage.name(key)}[{index}]", value.places[index])
    if "environment" in stage:
        stage["environment"] = _expanded(stage["environment"], "kind", stage.name("environment"), stage.at("environment"))
        _short_tools(stage["environment"])
    suites = stage.get("suites")
    if isinstance(suites, Section):
        for name in suites:
            suites[name] = _expanded(suites[name], "source", suites.name(name), suites.at(name))
    if "patch" in stage:
        stage["patch"] = _expanded(stage["patch"], "source", stage.name("patch"), stage.at("patch"))


def _short_tools(environment: Any) -> None:
    """`tools: [calculator]`: tools by their kind alone."""
    tools = environment.get("tools") if isinstance(environment, Section) else None
    if isinstance(tools, Series):
        for index, tool in enumerate(tools):
            tools[index] = _expanded(tool, "kind", f"{environment.name('tools')}[{index}]", tools.places[index])


def _expanded(item: Any, word: str, path: str, place: str) -> Any:
    if not isinstance(item, str):
        return item
    section = Section(path, place)
    section.put(word, item, place)
    return section


@cache
def adapter(config: Any) -> TypeAdapter[Any]:
    """The validator of a settings class. Making one reads the class's source for its docstrings, so it is kept."""
    return TypeAdapter(config)


def read_settings(config: type[T], section: Section, what: str) -> T:
    """Settings of class `config` from a section of the file; `what` is how errors call the holder (`kind 'grpo'`)."""
    problems = list(_kinds(section))
    if problems:  # go on without them, to name everything else that is wrong as well
        section = copy.deepcopy(section)
        section["graders"] = Series(section.name("graders"), section.at("graders"))
        section["graders"].put({"kind": "math"}, section.at("graders"))
        section.pop("environment", None)
    value = None
    try:
        value = adapter(cast(Any, config)).validate_json(json.dumps(section), strict=True)
    except ValidationError as error:
        problems += [_rewritten(each, config, section, what) for each in error.errors(include_url=False) if _meant(each, section)]
    if problems or value is None:
        raise combined(problems)
    return cast(T, _frozen(value))


def _frozen(value: Any) -> Any:
    """Lists as tuples, all the way down, so that equal settings are equal objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{field.name: _frozen(getattr(value, field.name)) for field in dataclasses.fields(value)}
        )
    if isinstance(value, Mapping):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list | tuple) else value


def combined(problems: Sequence[UserError]) -> UserError:
    """One error for all that is wrong, so that a recipe is mended in one go."""
    return problems[0] if len(problems) == 1 else UserError("\n".join(str(problem) for problem in problems))


def _by_kind(section: Section) -> Iterator[tuple[Any, str, str, str, Mapping[str, Any]]]:
    """What is told apart by `kind` among a stage's settings: the value, its path and place, what it is, the classes by kind."""
    graders, environment = section.get("graders"), section.get("environment")
    for index, grader in enumerate(graders if isinstance(graders, Series) else ()):
        yield grader, f"{section.name('graders')}[{index}]", section.at("graders"), "a grader", GRADERS
    if environment is not None:
        yield environment, section.name("environment"), section.at("environment"), "an environment", ENVIRONMENTS
    tools = environment.get("tools") if isinstance(environment, Section) else None
    for index, tool in enumerate(tools if isinstance(tools, Series) else ()):
        yield tool, f"{section.name('environment')}.tools[{index}]", section.at("environment"), "a tool", TOOLS


def _kinds(section: Section) -> Iterator[UserError]:
    """Say what has no kind or an unknown one, before pydantic lists what each kind would have wanted."""
    for value, path, place, what, known in _by_kind(section):
        kind = value.get("kind") if isinstance(value, Section) else None
        if kind in known or (kind is None and not isinstance(value, Section)):
            continue
        text = f"{path} has no kind" if kind is None else f"{path}.kind is {kind!r}, which is not {what}"
        yield UserError(f"{text}.", place=value.at("kind") or place, fix=_choice(str(kind), sorted(known)))


MEMBERS = {member.__name__: kind for table in (GRADERS, ENVIRONMENTS, TOOLS) for kind, member in table.items()}
FIRST = {next(iter(table.values())).__name__ for table in (GRADERS, ENVIRONMENTS, TOOLS)}


def _meant(error: Mapping[str, Any], section: Section) -> bool:
    """False for what pydantic says about members of a union other than the one that `kind` names."""
    value: Any = section
    for step in error["loc"]:
        if step in MEMBERS:
            if not isinstance(value, Section):
                return step in FIRST  # one message is enough
            if value.get("kind") != MEMBERS[step]:
                return False
        elif isinstance(value, Section):
            value = value.get(step)
        else:
            value = value[step] if isinstance(value, Series) and isinstance(step, int) and step < len(value) else None
    return True


def _rewritten(error: Mapping[str, Any], config: type[Any], section: Section, what: str) -> UserError:
    location = tuple(error["loc"])
    steps = tuple(step for step in location if step not in MEMBERS)
    place, path = _walk(section, steps)
    owner = class_at(config, location[:-1])
    last = str(steps[-1]) if steps else ""
    default = f" ({default_text(owner, last)})" if owner and default_text(owner, last) else ""
    kind = error["type"]
    if kind == "unexpected_keyword_argument":
        within = what if len(steps) == 1 else _owner(section, steps[:-1])
        near = nearest(last, list(fields_of(owner))) if owner else None
        hint = f" ({default_text(owner, near)})" if owner and near and default_text(owner, near) else ""
        fix = f"Did you mean {near}?{hint}" if near else f"Its settings: {', '.join(sorted(fields_of(owner)))}." if owner else ""
        return UserError(f"{path} is not a setting of {within}.", place=place, fix=fix)
    if kind == "missing":
        meaning = help_of(owner).get(last, "") if owner else ""
        return UserError(
            f"{path} is missing.", place=place, fix=f"Add `{last}:`{f' ({meaning.rstrip(chr(46))})' if meaning else ''}."
        )
    if kind == "value_error":
        return _checked(str(error["ctx"]["error"]), config, section, location, steps)
    given = error["input"]
    if kind == "literal_error":
        allowed = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return UserError(
            f"{path} is {given!r}; expected one of {', '.join(allowed)}.", place=place, fix=_choice(str(given), allowed, default)
        )
    wanted = WANTED.get(kind, error["msg"])
    value = (
        "a mapping"
        if isinstance(given, dict)
        else "a list"
        if isinstance(given, list)
        else "null"
        if given is None
        else repr(given)
    )
    return UserError(f"{path} is {value}; expected {wanted}.", place=place, fix=f"Write {wanted}{default}.")


def _owner(section: Section, steps: Sequence[Any]) -> str:
    """How to call the settings below `steps`: a grader, an environment or a tool by its kind, anything else by its name."""
    if steps[0] == "graders":
        return f"grader {section['graders'][steps[1]].get('kind')!r}"
    if steps[0] == "environment" and len(steps) in (1, 3):
        value = section["environment"] if len(steps) == 1 else section["environment"]["tools"][steps[2]]
        return f"{'environment' if len(steps) == 1 else 'tool'} {value.get('kind')!r}"
    return next(str(step) for step in reversed(steps) if isinstance(step, str))


def _checked(message: str, config: type[Any], section: Section, location: Sequence[Any], steps: Sequence[Any]) -> UserError:
    """An error from a dataclass's own check, which begins with the setting's name and says what is expected."""
    name = message.split(" ", 1)[0]
    owner = class_at(config, location)
    known = owner is not None and name.partition(".")[0] in fields_of(owner)
    inner = (*steps, *name.split(".")) if known else tuple(steps)
    place, path = _walk(section, inner)
    text = path + message[len(name) :] if known else f"{path}: {message}"
    default = default_text(owner, name) if owner and known else ""
    return UserError(
        f"{text}.", place=place, fix=f"The {default}.".replace("default ", "default is ") if default else "Change it there."
    )


def _walk(section: Section, steps: Sequence[Any]) -> tuple[str, str]:
    """The place and dotted path of the last step, as far as the tree goes."""
    value: Any = section
    place, path = section.place, section.path
    for step in steps:
        if isinstance(value, Series) and isinstance(step, int) and step < len(value):
            place, path, value = value.places[step], f"{path}[{step}]", value[step]
        elif isinstance(value, Section):
            place, path, value = (
                value.places.get(step, value.place or place),
                f"{path}.{step}" if path else str(step),
                value.get(step),
            )
        else:
            path = f"{path}[{step}]" if isinstance(step, int) else f"{path}.{step}"
            value = None
    return place, path


def _choice(given: str, allowed: Sequence[str], default: str = "") -> str:
    near = nearest(given, allowed)
    return f"Did you mean {near}?{default}" if near else f"Choose one of {', '.join(allowed)}{default}."


def plain(value: Any) -> Any:
    """Settings as plain data, without what is at its default only by being None or empty: what recipe.yaml shows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
