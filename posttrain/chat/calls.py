"""Tool calls as text, in the formats that model families write; which one is asked of the model's own template.

* Hermes and Qwen: one JSON object between <tool_call> tags, after any text; also what we write where a template has no words.
* Llama 3: the whole answer is one object with `name` and `parameters`.
* Mistral: the whole answer is a list of objects with `name` and `arguments`, after the control token [TOOL_CALLS].

Assumes that a call is valid JSON with a name and an object of arguments; anything else stays text, because a model's mistake
must stay visible to graders. Fails for formats that are not JSON (Llama 3.2's Python lists, Mistral's later [ARGS]): they stay
text, and the environment tells the model so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posttrain.chat.template import Template, as_turn
from posttrain.core.errors import UserError
from posttrain.core.types import Message, ToolCall

Split = Callable[[str], tuple[str, tuple[ToolCall, ...]]]
"""An answer -> the text before its calls, and the calls. All is text and nothing a call unless every call can be read."""

_CALL = re.compile(r"\n?<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


def with_calls(content: str, calls: Sequence[ToolCall]) -> str:
    """The assistant's text followed by its calls, one below the other."""
    written = (f"<tool_call>\n{_json({'name': c.name, 'arguments': dict(c.arguments)})}\n</tool_call>" for c in calls)
    return "\n".join([*([content] if content else []), *written])


def split_calls(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """The text before the calls, and the calls. Nothing is split off unless every call in the text can be read."""
    found = [_read(match.group(1)) for match in _CALL.finditer(text)]
    calls = tuple(call for call in found if call is not None)
    if not calls or len(calls) != len(found) or text.count("<tool_call>") != len(calls):
        return text, ()
    return _CALL.sub("", text).rstrip("\n"), calls


def split_object(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """Llama 3's: one object and nothing else."""
    bare = text.strip().removeprefix("<|python_tag|>").strip()
    call = _read(bare, "parameters") if bare.startswith("{") else None
    return ("", (call,)) if call is not None else (text, ())


def split_list(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """Mistral's: a list of objects and nothing else."""
    values = plain_json(text.strip().removeprefix("[TOOL_CALLS]"))
    calls = [_call(value, "arguments") for value in values] if isinstance(values, list) else []
    found = tuple(call for call in calls if call is not None)
    return ("", found) if found and len(found) == len(calls) else (text, ())


def split_of(template: Template) -> Split:
    """How to read this model's calls: a known call is written by its template, and what it looks like decides."""
    call = Message("assistant", "", tool_calls=(ToolCall("probe", {"x": "y"}, id="abcdefghi"),))
    opening = [as_turn(Message("user", "u"))]
    try:
        before = template.render(opening, answer_next=True)
        after = template.render([*opening, as_turn(call)])
    except UserError:  # it knows no calls
        return split_calls
    written = after.removeprefix(before)
    if "<tool_call>" in written or '"probe"' not in written:
        return split_calls
    return split_object if '"parameters"' in written else split_list if "[{" in written else split_calls


def tool_notice(tools: Sequence[Mapping[str, Any]]) -> str:
    """What a system prompt says about tools, for templates that have no words of their own for it."""
    schemas = "\n".join(_json(dict(tool)) for tool in tools)
    return (
        f"These functions can be called. Their JSON schemas:\n<tools>\n{schemas}\n</tools>\n"
        'To call one, write: <tool_call>\n{"name": the function, "arguments": {its arguments}}\n</tool_call>'
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _read(text: str, key: str = "arguments") -> ToolCall | None:
    return _call(plain_json(text), key)


def plain_json(text: str) -> Any:
    """The value, or None for what is no JSON. Python's additions are none: a name that stands twice, NaN and Infinity."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _call(value: Any, key: str) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get(key, {})
    return ToolCall(value["name"], arguments) if isinstance(arguments, dict) else None
