"""Raw rows -> training examples, in the layouts people have: TRL's types, OpenAI messages, ShareGPT, Alpaca.

The format is decided by the columns of the first row. TRL's "standard" types (strings) become Passages, without a chat
template; its conversational types become Conversations. In a prompt-completion row the prompt's assistant turns are context
and are not learnt. Alpaca's user turn is the instruction and, below it, the input, as LLaMA-Factory reads it; its history is
learnt too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from posttrain.core.errors import UserError
from posttrain.core.types import Conversation, Example, Message, Passage
from posttrain.data.files import Row
from posttrain.data.messages import read_messages, read_sharegpt, text_of

# The columns that decide, most telling first.
TELLING: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("messages", ("messages",)),
    ("sharegpt", ("conversations",)),
    ("prompt_completion", ("prompt", "completion")),
    ("alpaca", ("instruction", "output")),
    ("text", ("text",)),
)
_LAYOUTS = "; ".join(", ".join(columns) for _, columns in TELLING)


def detect(row: Row) -> str:
    """The format of a file, from the columns of its first row."""
    columns = set(row.values)
    for name, needed in TELLING:
        if columns >= set(needed):
            return name
    found = ", ".join(sorted(columns)) or "none"
    if columns >= {"chosen", "rejected"}:
        raise UserError(
            f"holds preferences ({found}); expected rows with answers to imitate.", place=row.place, fix="Keep only `chosen`."
        )
    if "prompt" in columns:
        raise UserError(
            f"has a prompt without a completion (columns: {found}).",
            place=row.place,
            fix="Add `completion`, or use the file as tasks.",
        )
    raise UserError(f"has columns {found}; expected one of these sets: {_LAYOUTS}.", place=row.place, fix="Rename the columns.")


def convert(row: Row, layout: str) -> Example:
    """One row as a training example. A Conversation has at least one assistant turn that is learnt."""
    example = FORMATS[layout](row)
    if isinstance(example, Passage):
        if not example.completion:
            raise UserError("has no text to learn from.", place=row.place, fix="Remove the row.")
        return example
    if not any(message.role == "assistant" for message in example.messages[example.context :]):
        where = " after the prompt" if example.context else ""
        raise UserError(f"has no assistant turn{where}; there is nothing to learn from.", place=row.place, fix="Remove the row.")
    slices, tools = _slices(row), _tools(row)
    return replace(example, slices=slices, tools=tools) if slices or tools else example


def _column(row: Row, name: str) -> Any:
    if name not in row.values:
        raise UserError(
            f"has no column {name!r} (columns: {', '.join(sorted(row.values)) or 'none'}).",
            place=row.place,
            fix="Add it or remove the row.",
        )
    return row.values[name]


def _messages(row: Row) -> Conversation:
    return Conversation(read_messages(_column(row, "messages"), row.place), row.place)


def _sharegpt(row: Row) -> Conversation:
    turns = _column(row, "conversations")
    # Some exports keep the column's name and use role and content inside.
    inner = isinstance(turns, list) and turns and isinstance(turns[0], dict) and "role" in turns[0] and "from" not in turns[0]
    messages = read_messages(turns, row.place, column="conversations") if inner else read_sharegpt(turns, row.place)
    return Conversation((*_system(row), *messages), row.place)


def _prompt_completion(row: Row) -> Example:
    prompt, completion = _column(row, "prompt"), _column(row, "completion")
    if isinstance(prompt, str) != isinstance(completion, str):
        raise UserError(
            "prompt and completion differ in kind; expected two strings or two lists of turns.",
            place=row.place,
            fix="Make both lists.",
        )
    if isinstance(prompt, str):
        return Passage(text_of(completion, "completion", row.place), text_of(prompt, "prompt", row.place), row.place)
    before = read_messages(prompt, row.place, column="prompt")
    after = read_messages(completion, row.place, column="completion")
    return Conversation((*before, *after), row.place, context=len(before))


def _text(row: Row) -> Passage:
    return Passage(text_of(_column(row, "text"), "text", row.place), origin=row.place)


def _alpaca(row: Row) -> Conversation:
    history: list[Message] = []
    past = row.values.get("history") or []
    if not isinstance(past, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in past):
        raise UserError("history is not a list of pairs [question, answer].", place=row.place, fix="Remove the column.")
    for question, answer in past:
        history += [
            Message("user", text_of(question, "history", row.place)),
            Message("assistant", text_of(answer, "history", row.place)),
        ]
    asked = text_of(_column(row, "instruction"), "instruction", row.place)
    given = text_of(row.values.get("input", ""), "input", row.place)
    user = Message("user", f"{asked}\n{given}" if given else asked)
    answer = Message("assistant", text_of(_column(row, "output"), "output", row.place))
    return Conversation((*_system(row), *history, user, answer), row.place)


FORMATS: dict[str, Callable[[Row], Example]] = {
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "text": _text,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
}


def _system(row: Row) -> tuple[Message, ...]:
    system = text_of(row.values.get("system", ""), "system", row.place)
    return (Message("system", system),) if system else ()


def _slices(row: Row) -> Mapping[str, str]:
    return read_slices(row.values.get("slices", {}), row.place)


def read_slices(value: Any, place: str) -> dict[str, str]:
    """{"digits": 2} as names and values in text, with which evaluation and diagnosis group."""
    if not isinstance(value, dict) or any(isinstance(inner, dict | list) for inner in value.values()):
        raise UserError("slices is not an object of names and values.", place=place, fix='Write {"digits": "2"}.')
    return {str(name): str(inner) for name, inner in value.items() if inner is not None}


def _tools(row: Row) -> tuple[Mapping[str, Any], ...]:
    tools = row.values.get("tools", [])
    if isinstance(tools, str):  # TRL allows JSON text, because schemas have no common type
        try:
            tools = json.loads(tools or "[]")
        except (ValueError, RecursionError) as error:
            raise UserError(f"tools is not valid JSON: {error}.", place=row.place, fix="Write a list of JSON schemas.") from error
    if not isinstance(tools, list) or any(not isinstance(tool, dict) for tool in tools):
        raise UserError("tools is not a list of JSON schemas.", place=row.place, fix="Write [{type: function, function: {…}}].")
    return tuple(tools)
