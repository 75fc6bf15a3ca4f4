"""What the README tells people to paste works when pasted."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

import posttrain as pt
from posttrain.models.load import Loaded

README = Path(__file__).resolve().parent.parent / "README.md"


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def shrunk(code: str, model: Path) -> str:
    """The same lines on the toy model and a handful of tasks."""
    for long, short in (
        ('"smollm2-135m-instruct"', repr(str(model))),
        ("train=2000, test=200", "train=4, test=2"),
        ("steps=25", "steps=1"),
    ):
        assert long in code
        code = code.replace(long, short)
    return code


@pytest.mark.parametrize("where", ["script", "notebook"])
def test_the_lines_of_python_work_when_pasted(
    where: str, toy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a script, and in a notebook, where an event loop is running already."""
    lines, _, grader = python_blocks()
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}

    async def cell() -> None:
        exec(shrunk(lines, toy_path), names)

    if where == "notebook":
        asyncio.run(cell())
    else:
        exec(shrunk(lines, toy_path), names)
    assert re.search(r"pass@1 .* -> .* on 2 tasks", capsys.readouterr().out)
    assert len(list(tmp_path.rglob("*.safetensors"))) >= 1
    AutoModelForCausalLM.from_pretrained(next(tmp_path.rglob("model.safetensors")).parent)
    exec(grader, names)
    assert names["concise"](None, "one two") == 1.0  # type: ignore[operator]


def test_the_other_methods_take_what_the_readme_gives_them(toy: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pair = {"prompt": [{"role": "user", "content": "say a"}], "chosen": [{"role": "assistant", "content": "a"}]}
    rows = [{**pair, "rejected": [{"role": "assistant", "content": str(i)}]} for i in range(8)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names: dict[str, object] = {"pt": pt, "model": pt.Model(toy, None), "tasks": pt.tasks("arithmetic", train=2, test=1)}
    lines = re.sub(r"steps=\d+", "steps=1", python_blocks()[1]).replace("samples=8", "samples=2, max_tokens=4").splitlines()
    assert lines.pop().startswith("pt.sft(model, rows")  # a toy gets no sum right, so there is nothing to imitate
    exec("\n".join(lines), names)
    assert names["rows"] == []


def test_every_command_of_the_documents_exists() -> None:
    from typer.main import get_command

    from posttrain.cli.app import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set()
    for document in [README, *(README.parent / "docs").glob("*.md")]:
        named |= set(re.findall(r"(?:^\$ |`)posttrain (\w+)", document.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert named <= known, named - known
    assert {"run", "check", "recipes", "compare", "chat", "graders", "schema"} <= named
