"""Task files and mixed sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.config import TaskSource
from posttrain.core.errors import UserError
from posttrain.core.types import Message, Task, ToolCall
from posttrain.data import load_tasks, read_tasks, write_tasks


def file(path: Path, *values: Any) -> str:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return f"./{path.name}"


def load(base: Path, *sources: TaskSource, references: dict[str, str] | None = None) -> list[Task]:
    return load_tasks(sources, references=references or {}, base=base, seed=0)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    call = Message("assistant", "", "hm", (ToolCall("f", {"x": 1}, "c1"),))
    tasks = [
        Task("a", (Message("user", "2+2?"),), "4", {"digits": "1"}, {"gold": "\\boxed{4}"}),
        Task("b", (Message("system", "S"), Message("user", "é"), call, Message("tool", "r", name="f"))),
    ]
    assert write_tasks(tmp_path / "tasks.jsonl", tasks) == 2
    assert list(read_tasks(tmp_path / "tasks.jsonl")) == tasks
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.jsonl"]


def test_only_the_prompt_is_needed(tmp_path: Path) -> None:
    source = file(
        tmp_path / "t.jsonl",
        {"prompt": "2+2?", "answer": 4, "level": "easy", "metadata": {"x": 1}},
        {"id": 7, "prompt": "?", "answer": 0.5},
    )
    first, second = load(tmp_path, TaskSource(source=source))
    assert first == Task("t-1", (Message("user", "2+2?"),), "4", {}, {"level": "easy", "x": 1})
    assert (second.id, second.answer) == ("7", "0.5")


def test_sources_are_mixed_without_duplicates(tmp_path: Path) -> None:
    first = file(tmp_path / "a.jsonl", *({"prompt": f"a{n}"} for n in range(9)))
    second = file(tmp_path / "b.jsonl", *({"prompt": f"b{n}"} for n in range(9)), {"prompt": "a1"})
    found = load(tmp_path, TaskSource(source=first, count=6), TaskSource(source=second, count=20))
    prompts = [task.messages[0].content for task in found]
    assert sorted(prompts) == [f"a{n}" for n in range(6)] + [f"b{n}" for n in range(9)]
    assert prompts == [
        task.messages[0].content for task in load(tmp_path, TaskSource(source=first, count=6), TaskSource(source=second, count=20))
    ]
    heavy = load(tmp_path, TaskSource(source=first, weight=3.0), TaskSource(source=second))
    assert sum(task.messages[0].content.startswith("a") for task in heavy) == 9 and len(heavy) in (11, 12, 13)


def test_system_prompt_is_put_in_front(tmp_path: Path) -> None:
    source = file(
        tmp_path / "t.jsonl", {"prompt": "a"}, {"prompt": [{"role": "system", "content": "old"}, {"role": "user", "content": "b"}]}
    )
    found = load(tmp_path, TaskSource(source=source, system="new"))
    assert [task.messages for task in found] == [(Message("system", "new"), Message("user", text)) for text in "ab"]


def test_a_diagnose_stage_is_a_source(tmp_path: Path) -> None:
    file(tmp_path / "data_patch.jsonl", {"prompt": "a"})
    assert (
        load(tmp_path, TaskSource(source="diagnose"), references={"diagnose": str(tmp_path / "data_patch.jsonl")})[0].id
        == "data_patch-1"
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"promt": "a"}, r"has no column 'prompt' \(columns: promt\)\. Did you mean promt\?"),
        ({"question": "a", "answer": "b"}, "Rename the column that holds the question"),
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": 3}, "prompt is not a list"),
        ({"prompt": [{"role": "gpt", "content": "x"}]}, "has role 'gpt'"),
        ({"prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "ends with an assistant turn"),
        ({"prompt": "a", "id": ["x"]}, "id is"),
        ({"prompt": "a", "answer": {"x": 1}}, "answer is of type dict"),
        ({"prompt": "a", "metadata": "x"}, "metadata is not an object"),
        ({"prompt": "a", "slices": "x"}, "slices is not an object"),
        ({"prompt": "b", "id": "first"}, r"has the id 'first' of another task \(t.jsonl:1\)"),
    ],
)
def test_bad_row(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    source = file(tmp_path / "t.jsonl", {"id": "first", "prompt": "ok"}, row)
    with pytest.raises(UserError, match=rf"^t.jsonl:2: .*{expected}"):
        load(tmp_path, TaskSource(source=source))


def test_one_id_in_two_sources_is_refused(tmp_path: Path) -> None:
    sources = [TaskSource(source=file(tmp_path / name, {"id": "x", "prompt": name})) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(UserError, match="two different tasks have the id 'x'"):
        load(tmp_path, *sources)
