"""Tasks: files of them, and sources mixed into one list.

A task file has one object a line: {"id", "prompt": a string or a list of turns, "answer", "slices": {}, "metadata": {}}.
Only `prompt` is needed. A missing id is made from the file's name and the row's number. A number as the answer becomes its
text. Further columns go into the metadata, where graders find them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from posttrain.core.config import TaskSource
from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.types import Message, Task
from posttrain.data import builtin
from posttrain.data.files import Row, rows, shown_name
from posttrain.data.formats import read_slices
from posttrain.data.messages import read_messages, text_of
from posttrain.data.mix import mix
from posttrain.data.sources import BUILTIN, resolve

COLUMNS = ("id", "prompt", "answer", "slices", "metadata")


def load_tasks(sources: Sequence[TaskSource], *, references: Mapping[str, str], base: Path, seed: int) -> list[Task]:
    """Tasks of all sources, mixed by weight (data/mix.py), without duplicates, at most `count` from each source.

    `system` is put in front of a source's tasks, in place of a system turn they bring. Two different tasks with one id are
    refused: randomness and comparison between runs go by id.
    """
    taken: dict[str, Task] = {}
    seen: set[str] = set()
    streams = [iter(_distinct(_read(source, references, base), seen, source.count)) for source in sources]
    for task in mix(streams, [source.weight for source in sources], seed=seed):
        if task.id in taken:
            raise UserError(f"two different tasks have the id {task.id!r}.", fix="Give every task an id of its own.")
        taken[task.id] = task
    return list(taken.values())


def read_tasks(path: Path, *, shown: str = "") -> Iterator[Task]:
    """The tasks of a file, in order. Two different tasks with one id are refused."""
    places: dict[str, tuple[str, Task]] = {}
    for number, row in enumerate(rows(path, shown), start=1):
        task = task_of(row, default_id=f"{path.stem}-{number}")
        place, earlier = places.setdefault(task.id, (row.place, task))
        if earlier != task:
            raise UserError(f"has the id {task.id!r} of another task ({place}).", place=row.place, fix="Give it an id of its own.")
        yield task


def task_of(row: Row, *, default_id: str) -> Task:
    """One raw row as a task."""
    if "prompt" not in row.values:
        found = ", ".join(sorted(row.values)) or "none"
        near = did_you_mean("prompt", row.values) if row.values else ""
        fix = near if near.startswith("Did you mean") else "Rename the column that holds the question."
        raise UserError(f"has no column 'prompt' (columns: {found}).", place=row.place, fix=fix)
    prompt = row.values["prompt"]
    if isinstance(prompt, str):
        if not prompt.strip():
            raise UserError("prompt is empty.", place=row.place, fix="Remove the row.")
        messages: tuple[Message, ...] = (Message("user", text_of(prompt, "prompt", row.place)),)
    else:
        messages = read_messages(prompt, row.place, column="prompt")
        if messages[-1].role == "assistant":
            raise UserError(
                "the prompt ends with an assistant turn; expected a user turn.", place=row.place, fix="Remove the turn."
            )
    metadata = row.values.get("metadata", {})
    if not isinstance(metadata, dict):
        raise UserError("metadata is not an object.", place=row.place, fix='Write {"name": value}.')
    further = {name: value for name, value in row.values.items() if name not in COLUMNS}
    return Task(
        id=_id(row, default_id),
        messages=messages,
        answer=_answer(row),
        slices=read_slices(row.values.get("slices", {}), row.place),
        metadata={**further, **metadata},
    )


def write_tasks(path: Path, tasks: Iterable[Task]) -> int:
    """Write a task file in one go (a temporary file, then a rename); the number of tasks written."""
    temporary = path.with_name(f"{path.name}.writing")
    count = 0
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for task in tasks:
                file.write(json.dumps(_plain(task), ensure_ascii=False, allow_nan=False) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _read(source: TaskSource, references: Mapping[str, str], base: Path) -> Iterator[Task]:
    if source.source.startswith(BUILTIN):
        name = source.source.removeprefix(BUILTIN)
        found: Iterator[Task] = iter(
            builtin.tasks(name, split=source.split, count=source.count, seed=source.seed, options=source.options)
        )
    elif source.options:
        raise UserError(f"source {source.source!r} has options, which only built-in sets read.", fix="Remove them.")
    else:
        path = resolve(source.source, references, base)
        found = read_tasks(path, shown=shown_name(path, base))
    return (_with_system(task, source.system) for task in found) if source.system is not None else found


def _with_system(task: Task, system: str) -> Task:
    rest = task.messages[1:] if task.messages[0].role == "system" else task.messages
    return replace(task, messages=(Message("system", system), *rest))


def _distinct(tasks: Iterator[Task], seen: set[str], count: int) -> Iterator[Task]:
    """At most `count` tasks that no source has given before. The same question with another answer is another task."""
    for task in tasks:
        key = json.dumps([_turns(task), task.answer, task.metadata], sort_keys=True, default=str)
        if key in seen:
            continue
        seen.add(key)
        yield task
        count -= 1
        if not count:
            return


def _id(row: Row, default: str) -> str:
    value = row.values.get("id", default)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise UserError(f"id is {value!r}; expected a string.", place=row.place, fix="Remove it, or write a name.")
    return text_of(value, "id", row.place)


def _answer(row: Row) -> str | None:
    value = row.values.get("answer")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    return None if value is None else text_of(value, "answer", row.place)


def _turns(task: Task) -> list[dict[str, Any]]:
    return [turn_of(message) for message in task.messages]


def turn_of(message: Message) -> dict[str, Any]:
    """A message as files have it."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        turn["thinking"] = message.thinking
    if message.tool_calls:
        calls = [{"id": call.id, "function": {"name": call.name, "arguments": dict(call.arguments)}} for call in message.tool_calls]
        turn["tool_calls"] = calls
    if message.name:
        turn["name"] = message.name
    return turn


def _plain(task: Task) -> dict[str, Any]:
    """A task as a row. A lone user turn is written as a string, which is how people write it."""
    lone = (
        len(task.messages) == 1
        and task.messages[0] == Message("user", task.messages[0].content)
        and task.messages[0].content.strip()
    )
    row: dict[str, Any] = {"id": task.id, "prompt": task.messages[0].content if lone else _turns(task)}
    if task.answer is not None:
        row["answer"] = task.answer
    if task.slices:
        row["slices"] = dict(task.slices)
    if task.metadata:
        row["metadata"] = dict(task.metadata)
    return row
