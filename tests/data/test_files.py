"""Real files in every layout, and every way a file can be wrong: the message names the file, the line and one fix."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from posttrain.core.config import DataSource
from posttrain.core.errors import UserError
from posttrain.core.types import Conversation, Message, Passage, ToolCall
from posttrain.data import describe, examples, read_examples

CHAT = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}


def written(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
    return path


def read(path: Path, layout: str = "auto") -> list[Any]:
    return list(read_examples(path, layout=layout, shown=path.name))


def turns(example: Any) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in example.messages]


class TestLayouts:
    def test_messages_with_tools_and_thinking(self, tmp_path: Path) -> None:
        schema = {"type": "function", "function": {"name": "add"}}
        call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": [2]}'}}
        row = {
            "messages": [
                {"role": "developer", "content": "Use tools."},
                {"role": "user", "content": "1+2?"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "3"},
                {"role": "assistant", "content": "3", "reasoning_content": "easy"},
            ],
            "tools": [schema],
            "slices": {"digits": 1},
        }
        (example,) = read(written(tmp_path / "a.jsonl", row))
        assert example == Conversation(
            (
                Message("system", "Use tools."),
                Message("user", "1+2?"),
                Message("assistant", "", tool_calls=(ToolCall("add", {"a": 1, "b": [2]}, "c1"),)),
                Message("tool", "3", name="add"),
                Message("assistant", "3", thinking="easy"),
            ),
            origin="a.jsonl:1",
            slices={"digits": "1"},
            tools=(schema,),
        )

    def test_prompt_completion_as_strings_is_plain_text(self, tmp_path: Path) -> None:
        assert read(written(tmp_path / "a.jsonl", {"prompt": "2+2=", "completion": "4"})) == [Passage("4", "2+2=", "a.jsonl:1")]

    def test_prompt_completion_as_turns_learns_the_completion_only(self, tmp_path: Path) -> None:
        prompt = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
        (example,) = read(written(tmp_path / "a.jsonl", {"prompt": prompt, "completion": [{"role": "assistant", "content": "d"}]}))
        assert example.context == 3 and turns(example)[-1] == ("assistant", "d")

    def test_text(self, tmp_path: Path) -> None:
        assert read(written(tmp_path / "a.jsonl", {"text": "once"})) == [Passage("once", origin="a.jsonl:1")]

    def test_sharegpt(self, tmp_path: Path) -> None:
        values = [
            {"from": "human", "value": "1+2?"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": "It is 3."},
        ]
        (example,) = read(written(tmp_path / "a.jsonl", {"conversations": values, "system": "S"}))
        assert turns(example) == [("system", "S"), ("user", "1+2?"), ("assistant", ""), ("tool", "3"), ("assistant", "It is 3.")]
        assert example.messages[2].tool_calls == (ToolCall("add", {"a": 1}),)

    def test_alpaca(self, tmp_path: Path) -> None:
        row = {"instruction": "Sort.", "input": "b a", "output": "a b", "history": [["Hi", "Hello"]], "system": ""}
        (example,) = read(written(tmp_path / "a.jsonl", row))
        assert turns(example) == [("user", "Hi"), ("assistant", "Hello"), ("user", "Sort.\nb a"), ("assistant", "a b")]

    def test_json_array_has_true_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text("\ufeff" + json.dumps([CHAT, CHAT], indent=1), encoding="utf-8")
        lines = path.read_text().splitlines()
        starts = [number for number, line in enumerate(lines, start=1) if line == " {"]
        assert [example.origin for example in read(path)] == [f"a.json:{line}" for line in starts]

    def test_json_with_an_object_a_line_is_read_as_jsonl(self, tmp_path: Path) -> None:
        assert len(read(written(tmp_path / "a.json", CHAT, CHAT))) == 2

    def test_csv_rows_stand_where_they_begin(self, tmp_path: Path) -> None:
        with (tmp_path / "a.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["prompt", "completion"], ["two\nlines", "a, b"], ["x", "é"]])
        assert read(tmp_path / "a.csv") == [Passage("a, b", "two\nlines", "a.csv:2"), Passage("é", "x", "a.csv:4")]

    def test_parquet_nulls_are_missing_keys(self, tmp_path: Path) -> None:
        call = {"function": {"name": "f", "arguments": "{}"}}
        with_call = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]}]}
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([CHAT | {"slices": None}, with_call]), tmp_path / "a.parquet")
        first, second = read(tmp_path / "a.parquet")
        assert turns(first) == [("user", "2+2?"), ("assistant", "4")] and first.messages[1].tool_calls == ()
        assert second.messages[1].tool_calls == (ToolCall("f", {}),) and second.origin == "a.parquet:2"

    def test_blank_lines_and_windows_line_ends_pass(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(CHAT).encode() + b"\r\n\r\n" + json.dumps(CHAT).encode())
        assert [example.origin for example in read(tmp_path / "a.jsonl")] == ["a.jsonl:1", "a.jsonl:3"]


def message(content: Any, role: Any = "assistant", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "q"}, {"role": role, "content": content, **more}]}


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "sharegpt's role in messages": (
        message("a", "gpt"),
        r"message 2 has role 'gpt'; expected one of system, user, assistant, tool\. Use format: sharegpt",
    ),
    "unknown role": (message("a", "narrator"), "has role 'narrator'"),
    "role of another type": (message("a", ["user"]), "has role"),
    "no role": ({"messages": [{"content": "x"}]}, "message 1 has no role"),
    "content is a number": (message(4), "message 2: content is of type int; expected a string"),
    "content is a list of parts": (message([{"type": "text", "text": "a"}]), r"of type list; .* Join its text parts"),
    "content missing": ({"messages": [{"role": "user"}]}, "message 1: content is missing"),
    "half a surrogate pair": (message("\ud800"), r"half of a surrogate pair \(\\ud800\)"),
    "weight 0": (message("a", weight=0), "has weight 0"),
    "call arguments cut off": (
        message(None, tool_calls=[{"function": {"name": "f", "arguments": '{"a"'}}]),
        "arguments are not valid JSON",
    ),
    "call without a name": (message(None, tool_calls=[{}]), "tool call 1 has no function name"),
    "turn is a string": ({"messages": ["hi"]}, "turn 1 is of type str"),
    "messages is a string": ({"messages": "[]"}, "messages is a string; expected a list of turns"),
    "messages empty": ({"messages": []}, "messages is empty"),
    "no assistant turn": ({"messages": [{"role": "user", "content": "x"}]}, "has no assistant turn"),
    "nothing after the prompt": (
        {"prompt": CHAT["messages"], "completion": [{"role": "user", "content": "x"}]},
        "no assistant turn after the prompt",
    ),
    "prompt and completion of two kinds": ({"prompt": "x", "completion": CHAT["messages"]}, "differ in kind"),
    "empty completion": ({"prompt": "x", "completion": ""}, "has no text to learn from"),
    "unknown columns": ({"question": "x", "reply": "y"}, "has columns question, reply; expected one of these sets: messages; "),
    "preferences": ({"prompt": "x", "chosen": "a", "rejected": "b"}, "holds preferences"),
    "prompt only": ({"prompt": "x"}, "a prompt without a completion"),
    "sharegpt's unknown speaker": ({"conversations": [{"from": "narrator", "value": "x"}]}, "turn 1 is from 'narrator'"),
    "a list": ([1], "is an array; expected an object with named columns"),
    "a number": (3, "is a number; expected an object"),
    "tools not a list": (CHAT | {"tools": "{}"}, "tools is not a list"),
    "slices not an object": (CHAT | {"slices": ["a"]}, "slices is not an object"),
    "alpaca history": ({"instruction": "a", "output": "b", "history": [["x"]]}, "history is not a list of pairs"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row(tmp_path: Path, name: str) -> None:
    row, expected = BAD_ROWS[name]
    path = tmp_path / "train.jsonl"
    path.write_text("\n" + json.dumps(row))
    with pytest.raises(UserError, match=expected) as caught:
        read(path)
    assert str(caught.value).startswith("train.jsonl:2: ") and caught.value.fix


def test_later_row_without_the_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^a.jsonl:2: has no column 'messages' \(columns: text\)"):
        read(written(tmp_path / "a.jsonl", CHAT, {"text": "x"}))


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "half a line": (
        "a.jsonl",
        json.dumps(CHAT).encode() + b'\n{"messages": [{"ro',
        r"^a.jsonl:2: is not complete JSON: the line is cut off",
    ),
    "junk in a line": ("a.jsonl", b'{"text": x}', r"^a.jsonl:1: is not complete JSON: Expecting value at column 10"),
    "two rows in a line": ("a.jsonl", b'{"text": "a"} {"text": "b"}', r"^a.jsonl:1: .*Extra data at column 15"),
    "empty": ("a.jsonl", b"", "^a.jsonl: the file is empty"),
    "blank": ("a.jsonl", b"\n \n", "^a.jsonl: the file is empty"),
    "empty array": ("a.json", b"[]", "^a.json: the file is empty"),
    "empty json": ("a.json", b"", "^a.json: the file is empty"),
    "header only": ("a.csv", b"prompt,completion\n", "^a.csv: the file is empty"),
    "NaN": ("a.jsonl", b'{"text": "a"}\n{"text": "b", "score": NaN}', "^a.jsonl:2: holds NaN or an infinite number"),
    "overflow": ("a.jsonl", b'{"text": "b", "score": 1e999}', "^a.jsonl:1: holds NaN or an infinite number"),
    "latin-1": (
        "a.jsonl",
        '{"text": "a"}\n{"text": "é"}'.encode("latin-1"),
        r"^a.jsonl:2: byte 11 of the line \(0xe9\) is not UTF-8",
    ),
    "latin-1 in an array": ("a.json", '[{"text": "a"},\n{"text": "é"}]'.encode("latin-1"), r"^a.json:2: byte 11 of the line"),
    "latin-1 in a table": ("a.csv", "text\na\né".encode("latin-1"), "^a.csv:3: byte 1 of the line"),
    "utf-16": ("a.jsonl", '{"text": "a"}'.encode("utf-16"), r"^a.jsonl:1: byte 1 of the line \(0xff\)"),
    "array cut off": ("a.json", b'[{"text": "a"},\n{"text"', "^a.json:2: is not complete JSON"),
    "array without an end": ("a.json", b'[{"text": "a"},\n', "^a.json:2: is not complete JSON"),
    "array without a comma": ("a.json", b'[{"text": "a"}\n{"text": "b"}]', "^a.json:2: .*a comma between rows is missing"),
    "an object over several lines": ("a.json", b'{\n"text": "a"}', "^a.json:1: is not complete JSON"),
    "a bare string": ("a.json", b'"x"', r"^a.json:1: does not begin with \[ or \{"),
    "too few cells": ("a.csv", b"prompt,completion\na,b\nc\n", r"^a.csv:3: has 1 cells; expected 2 \(prompt, completion\)"),
    "open quote": ("a.csv", b'prompt,completion\na,"b\n', "^a.csv:2: is not valid CSV"),
    "column twice": ("a.csv", b"text,text\na,b\n", "^a.csv:1: names a column twice"),
    "not parquet": ("a.parquet", b"PAR1 but no", "^a.parquet: is not a readable Parquet file"),
    "deep": ("a.jsonl", b'{"text": ' + b"[" * 100_000, "^a.jsonl:1: is nested too deeply"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(tmp_path: Path, name: str) -> None:
    file, content, expected = BAD_FILES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=expected) as caught:
        read(tmp_path / file)
    assert caught.value.exit_code == 2 and caught.value.fix


def test_nan_in_parquet(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b"], "score": [1.0, float("nan")]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"^a.parquet:2: holds NaN"):
        read(tmp_path / "a.parquet")


class TestPaths:
    def test_missing_file_names_the_nearest(self, tmp_path: Path) -> None:
        written(tmp_path / "train.jsonl", CHAT)
        with pytest.raises(UserError, match=r"^trian.jsonl: there is no such file\. Did you mean train.jsonl\?"):
            read(tmp_path / "trian.jsonl")

    def test_directory_names_the_files_in_it(self, tmp_path: Path) -> None:
        written(tmp_path / "train.jsonl", CHAT)
        with pytest.raises(UserError, match=r"is a directory; expected a file\. Name a file in it: train.jsonl"):
            read(tmp_path)

    def test_unknown_extension(self, tmp_path: Path) -> None:
        written(tmp_path / "train.txt", CHAT)
        with pytest.raises(UserError, match=r"unknown extension '.txt'; expected one of .jsonl, .json, .csv, .parquet"):
            read(tmp_path / "train.txt")

    def test_source_is_neither_file_nor_stage(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"'rejecton' is neither a file nor a stage\. Did you mean rejection\?"):
            examples([DataSource(source="rejecton")], references={"rejection": "x"}, base=tmp_path, seed=0)

    def test_options_belong_to_builtin_sets(self, tmp_path: Path) -> None:
        source = DataSource(source=str(written(tmp_path / "a.jsonl", CHAT)), options={"digits": [1]})
        with pytest.raises(UserError, match="has options, which only built-in sets read"):
            examples([source], references={}, base=tmp_path, seed=0)


class TestExamples:
    def test_stage_reference_count_and_format(self, tmp_path: Path) -> None:
        path = written(tmp_path / "data.jsonl", *({"text": str(n), "prompt": "p", "completion": str(n)} for n in range(5)))
        source = DataSource(source="rejection", format="text", count=3)
        found = list(examples([source], references={"rejection": str(path)}, base=tmp_path, seed=0))
        assert [example.completion for example in found if isinstance(example, Passage)] == ["0", "1", "2"]
        assert found[0].origin == "data.jsonl:1"

    def test_wrong_file_is_refused_before_work_begins(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="there is no such file"):
            examples([DataSource(source="./none.jsonl")], references={}, base=tmp_path, seed=0)

    def test_two_hundred_thousand_rows_take_no_more_memory_than_ten_thousand(self, tmp_path: Path) -> None:
        """Only the digest table may grow: 8 bytes a slot, at most two thirds full, so 4 MiB, and 6 while it is doubled."""
        line = json.dumps(CHAT)

        def peak(count: int) -> int:
            path = tmp_path / f"{count}.jsonl"
            with path.open("w") as file:
                file.writelines(line.replace("2+2?", f"{n}+{n}?") + "\n" for n in range(count))
            done = subprocess.run([sys.executable, "-c", STREAM, str(path)], capture_output=True, text=True, check=True)
            rows, kibibytes = map(int, done.stdout.split())
            assert rows == count
            return kibibytes * 1024

        assert peak(200_000) - peak(10_000) < 16 * 2**20


STREAM = """
import resource, sys
from pathlib import Path
from posttrain.core.config import DataSource
from posttrain.data import examples
from posttrain.data.dedup import unique
found = unique(examples([DataSource(source=sys.argv[1])], references={}, base=Path("."), seed=0))
print(sum(1 for _ in found), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


class TestDescribe:
    def test_training_file(self, tmp_path: Path) -> None:
        found = describe(written(tmp_path / "a.jsonl", CHAT, CHAT))
        assert (found.format, found.columns, found.rows, found.estimated) == ("messages", ("messages",), 2, False)

    def test_task_file(self, tmp_path: Path) -> None:
        found = describe(written(tmp_path / "a.jsonl", {"prompt": "2+2?", "answer": 4}))
        assert found.format == "tasks" and found.rows == 1

    def test_large_file_is_estimated(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("posttrain.data.description.WHOLE", 100)
        found = describe(written(tmp_path / "a.jsonl", *({"text": f"{n:04d}"} for n in range(5000))))
        assert found.estimated and found.rows == 5000
