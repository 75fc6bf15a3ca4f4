"""Is a text one JSON value, and does it satisfy a JSON schema (draft 2020-12, by the jsonschema package)?

Strict JSON: no NaN, no key twice, nothing around the value but one code fence. Schemas are the user's own and still kept from
two things: `$ref` to anywhere but the schema itself (the package would fetch it), and `pattern`, whose regular expression model
text could keep busy for hours. Formats such as `date` are not checked; the standard calls them annotations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

LONGEST = 10_000
_fence = re.compile(r"^```(?:json)?\s*\n(.*)\n\s*```$", re.S | re.I)


class BadSchema(ValueError):
    """The schema itself cannot be used."""


def problem(schema: Mapping[str, Any] | None, text: str) -> str:
    """What is wrong with the text; empty if nothing is. Raises BadSchema."""
    text = text.strip()
    if fenced := _fence.match(text):
        text = fenced[1]
    if len(text) > LONGEST:
        return f"{len(text)} characters of JSON, more than {LONGEST}"
    try:
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=without_doubles)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {str(error)[:100]}"
    return "" if schema is None else against(json.dumps(schema, sort_keys=True), value)


def against(schema: str, value: Any) -> str:
    from referencing.exceptions import Unresolvable

    try:
        found = next(validator(schema).iter_errors(value), None)
    except Unresolvable as error:
        raise BadSchema(f"the schema refers to {error.ref!r}, which it does not hold") from None
    except RecursionError:
        return "nested too deeply"
    if found is None:
        return ""
    place = "/".join(str(step) for step in found.absolute_path)
    return f"{place or 'the value'}: {found.message[:120]}"


@lru_cache(maxsize=256)
def validator(text: str) -> Any:
    """The validator of a schema, checked once. It fetches nothing."""
    from jsonschema import Draft202012Validator, SchemaError
    from referencing import Registry

    schema = json.loads(text)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise BadSchema(f"not a JSON schema: {error.message[:120]}") from None
    if unsafe := next(refused(schema), ""):
        raise BadSchema(unsafe)
    return Draft202012Validator(schema, registry=Registry())


def refused(schema: Any) -> Any:
    """Why parts of a schema are not used, one sentence each. What stands under `properties`, `const` and the like is data."""
    if isinstance(schema, Mapping):
        for key, inner in schema.items():
            if key in ("pattern", "patternProperties"):
                yield f"{key} is not used here, because text written against a regular expression can stop the run"
            if key in ("$ref", "$dynamicRef") and isinstance(inner, str) and not inner.startswith("#"):
                yield f"{key} is {inner!r}; expected a reference into the schema itself, which begins with #"
            named = key in ("properties", "$defs", "dependentSchemas")
            if key not in ("const", "enum", "default", "examples"):
                yield from refused(list(inner.values()) if named and isinstance(inner, Mapping) else inner)
    elif isinstance(schema, Sequence) and not isinstance(schema, str):
        for inner in schema:
            yield from refused(inner)


def refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
