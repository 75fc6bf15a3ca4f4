"""Tool calls as text: one JSON object between <tool_call> tags, as the Hermes and Qwen models write them.

Assumes a call is valid JSON with a name and an object of arguments; anything else stays text, because a model's mistake
must stay visible to graders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.core.types import ToolCall

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


def tool_notice(tools: Sequence[Mapping[str, Any]]) -> str:
    """What a system prompt says about tools, for templates that have no words of their own for it."""
    schemas = "\n".join(_json(dict(tool)) for tool in tools)
    return (
        f"These functions can be called. Their JSON schemas:\n<tools>\n{schemas}\n</tools>\n"
        'To call one, write: <tool_call>\n{"name": the function, "arguments": {its arguments}}\n</tool_call>'
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _read(text: str) -> ToolCall | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", {})
    return ToolCall(value["name"], arguments) if isinstance(arguments, dict) else None
