"""Which sandbox a stage's programs ran in is printed and recorded; that they ran in none taints the stage's records."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from require import require

from posttrain.core.config import CodeGrader, MathGrader
from posttrain.records.events import read_events
from posttrain.stages.parts import say_sandbox


def said(folder: Path, grader: Any) -> tuple[list[str], list[dict[str, Any]]]:
    words: list[str] = []
    context: Any = SimpleNamespace(directory=folder, reporter=SimpleNamespace(say=words.append))
    say_sandbox([grader], None, context)
    return words, read_events(folder / "events.jsonl") if (folder / "events.jsonl").exists() else []


def test_the_sandbox_in_use_is_said_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("landlock")
    monkeypatch.setenv("POSTTRAIN_SANDBOX", "embedded")
    words, events = said(tmp_path, CodeGrader())
    assert len(words) == 1 and words[0].startswith("sandbox: embedded (")
    assert [(each["event"], each["backend"], each["safe"]) for each in events] == [("sandbox", "embedded", True)]
    assert "seccomp" in events[0]["walls"]


def test_no_sandbox_taints_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTTRAIN_SANDBOX", "unsafe")
    _, events = said(tmp_path, CodeGrader())
    assert [each["event"] for each in events] == ["sandbox", "warning"] and events[0]["safe"] is False
    assert events[1]["severity"] == "warn" and "no sandbox" in events[1]["text"]


def test_what_runs_no_program_says_nothing(tmp_path: Path) -> None:
    assert said(tmp_path, MathGrader()) == ([], [])
