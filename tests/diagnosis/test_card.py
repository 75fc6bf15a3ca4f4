"""The model card from records alone: what got worse is said, the rest of the records may be missing, hostile text stays text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from posttrain.diagnosis.card import Exported, ancestors, card, line, worse
from posttrain.diagnosis.load import RunView, StageView
from posttrain.records.paths import RunPaths, StagePaths

ABOUT = Exported(title="run/train", base="a/base", licence="mit", dtype="bf16", adapter=False)


def stage(name: str, kind: str, evaluations: dict[str, Any] | None = None, **config: Any) -> StageView:
    result = {"evaluations": evaluations} if evaluations else {}
    return StageView(name, kind, "done", 1.0, config, [], [], result, StagePaths(Path("run") / name))


def run(*stages: StageView, **recipe: Any) -> RunView:
    return RunView(RunPaths(Path("run")), recipe, {}, {}, list(stages))


def rate(value: float, low: float, high: float) -> dict[str, Any]:
    return {"pass@1": {"value": value, "low": low, "high": high, "n": 50}}


def test_what_got_worse_beyond_both_intervals_is_said_and_nothing_else() -> None:
    before = {"s": {**rate(0.5, 0.4, 0.6), "slices": {"kind=a": rate(0.8, 0.7, 0.9), "kind=b": rate(0.3, 0.2, 0.4)}}}
    after = {"s": {**rate(0.55, 0.45, 0.65), "slices": {"kind=a": rate(0.2, 0.1, 0.3), "kind=b": rate(0.25, 0.15, 0.35)}}}
    view = run(
        stage("start", "evaluate", before, model="base"),
        stage("train", "sft", model="base"),
        stage("end", "evaluate", after, model="train"),
    )
    assert worse(view, "train") == ["s, kind=a: 20.0 % (10.0–30.0) against 80.0 % (70.0–90.0)"]
    assert "- Worse than the base, beyond both intervals: s, kind=a: 20.0 %" in card(ABOUT, view, "train")
    assert worse(view, "other") == []


def test_ancestors_are_the_stages_that_lead_here() -> None:
    stages = [
        stage("one", "sft", model="base"),
        stage("two", "sft", model="base"),
        stage("else", "sft", model="base"),
        stage("soup", "average", models=["one", "two"]),
        stage("rl", "grpo", model="soup"),
    ]
    assert [each.id for each in ancestors(run(*stages), "rl")] == ["one", "two", "soup", "rl"]
    assert [each.id for each in ancestors(run(stage("a", "sft", model="a")), "a")] == ["a"], "a loop ends"


@pytest.mark.parametrize("recipe", [{}, {"differs": "text", "tradeoff": None, "source": 7}])
def test_records_that_are_missing_or_broken_are_unknown(recipe: dict[str, Any]) -> None:
    view = run(stage("train", "sft", {"s": {"pass@1": {}}}, model="base", data=[{}, "x"]), **recipe)
    text = card(ABOUT, view, "train")
    assert "unknown" in text and "This model was not evaluated" in text
    assert card(ABOUT, run(), "gone").startswith("---\n")


@pytest.mark.parametrize(
    "text", ["a\n---\nlicense: evil", "# heading\n\n| a | b |", "<script>alert(1)</script>", "\x1b[2J\u202eabc"]
)
def test_hostile_text_stays_on_its_line(text: str) -> None:
    view = run(stage("train", "sft", model=text, learning_rate=text), name=text, source=text, tradeoff=text, differs=[text])
    shown = card(Exported(text, text, text, "bf16", False), view, "train")
    head, rest = shown.removeprefix("---\n").split("\n---\n", 1)
    assert len(head.splitlines()) == 5 and "\n---\n" not in rest
    assert "<script" not in re.sub(r"`[^`\n]*`", "", rest), "only inside a span of code is it text"
    assert "\x1b" not in shown and "\u202e" not in shown
    assert "\n" not in line(text)
