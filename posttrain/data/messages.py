"""Raw turns -> Messages: OpenAI's `role` and `content` with tool calls, ShareGPT's `from` and `value`.

Content must be a string: lists of parts (images, audio) are refused rather than dropped. OpenAI's `developer` role is its
newer word for system, `function` its older one for tool. A turn that says it is not to be trained on (`weight: 0`) is refused,
because the loss mask would not follow it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from posttrain.core.errors import UserError
from posttrain.core.types import ROLES, Message, Role, ToolCall

OPENAI_ROLES: dict[str, Role] = {**{role: role for role in get_args(Role)}, "developer": "system", "function": "tool"}
SHAREGPT_ROLES: dict[str, Role] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model", "bing", "bard", "function_call"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function_response"), "tool"),
    "system": "system",
}


def read_messages(value: Any, place: str, *, column: str = "messages") -> tuple[Message, ...]:
    """A list of {role, content} turns."""
    return tuple(_openai(turn, f"message {n}", place) for n, turn in enumerate(_turns(value, column, place), start=1))


def read_sharegpt(value: Any, place: str) -> tuple[Message, ...]:
    """A list of {from, value} turns, with ShareGPT's names of the roles."""
    return tuple(_sharegpt(turn, f"turn {n}", place) for n, turn in enumerate(_turns(value, "conversations", place), start=1))


def silent(message: Message) -> bool:
    """True if the turn says, thinks and calls nothing."""
    return not (message.content.strip() or message.thinking.strip() or message.tool_calls)


def text_of(value: Any, what: str, place: str) -> str:
    """A string that can be written as UTF-8 (a lone half of a surrogate pair, which JSON allows, cannot)."""
    if not isinstance(value, str):
        found = "missing" if value is None else f"of type {type(value).__name__}"
        fix = "Join its text parts into one string." if isinstance(value, list) else "Write it as a string."
        raise UserError(f"{what} is {found}; expected a string.", place=place, fix=fix)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{what} holds half of a surrogate pair (\\u{ord(value[error.start]):04x}); expected whole characters.",
                place=place,
                fix="Remove the character.",
            ) from error
    return value


def _turns(value: Any, column: str, place: str) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, str):  # a list that a CSV or a database column carries as text
        raise UserError(
            f"{column} is a string; expected a list of turns.", place=place, fix="Decode the column before writing the file."
        )
    if not isinstance(value, list) or not value:
        raise UserError(
            f"{column} is {'empty' if value == [] else 'not a list'}; expected a list of turns.", place=place, fix="Remove the row."
        )
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, dict):
            raise UserError(
                f"{column}: turn {number} is of type {type(turn).__name__}; expected an object.", place=place, fix="Remove the row."
            )
    return value


def _openai(turn: Mapping[str, Any], what: str, place: str) -> Message:
    given = turn.get("role")
    role = OPENAI_ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        known = str(given) in SHAREGPT_ROLES or "from" in turn
        found = f"has role {given!r}" if given is not None else "has no role"
        fix = "Use format: sharegpt to convert." if known else "Rename the role."
        raise UserError(f"{what} {found}; expected one of {', '.join(ROLES)}.", place=place, fix=fix)
    if turn.get("weight") not in (None, 1):
        raise UserError(
            f"{what} has weight {turn['weight']!r}; only 1 is supported.", place=place, fix="Remove the turn or the weight."
        )
    calls = _calls(turn.get("tool_calls"), what, place) if role == "assistant" else ()
    content = turn.get("content")
    if content is None and calls:
        content = ""
    thinking = next((turn[key] for key in ("thinking", "reasoning_content", "reasoning") if turn.get(key)), "")
    return Message(
        role,
        text_of(content, f"{what}: content", place),
        text_of(thinking, f"{what}: thinking", place) if role == "assistant" else "",
        calls,
        text_of(turn.get("name") or "", f"{what}: name", place),
    )


def _calls(value: Any, what: str, place: str) -> tuple[ToolCall, ...]:
    if not value:
        return ()
    if not isinstance(value, list):
        raise UserError(f"{what}: tool_calls is not a list.", place=place, fix="Write [{function: {name, arguments}}].")
    return tuple(_call(call, f"{what}: tool call {n}", place) for n, call in enumerate(value, start=1))


def _call(value: Any, what: str, place: str) -> ToolCall:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UserError(f"{what} has no function name.", place=place, fix="Write {function: {name, arguments}}.")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):  # OpenAI writes arguments as JSON text
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{what}: arguments are not valid JSON: {error}.", place=place, fix="Repair or remove the row."
            ) from error
    if not isinstance(arguments, dict):
        raise UserError(f"{what}: arguments are not an object.", place=place, fix='Write {"name": value}.')
    return ToolCall(function["name"], arguments, str(value.get("id") or ""))


def _sharegpt(turn: Mapping[str, Any], what: str, place: str) -> Message:
    given = turn.get("from")
    role = SHAREGPT_ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        found = f"is from {given!r}" if given is not None else "does not say who it is from"
        fix = "Use format: messages." if "role" in turn else "Rename it."
        raise UserError(f"{what} {found}; expected one of {', '.join(SHAREGPT_ROLES)}.", place=place, fix=fix)
    value = text_of(turn.get("value"), f"{what}: value", place)
    if given != "function_call":
        return Message(role, value)
    try:
        call = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{what}: the function call is not valid JSON: {error}.", place=place, fix="Repair or remove the row."
        ) from error
    return Message("assistant", "", tool_calls=(_call(call, what, place),))
