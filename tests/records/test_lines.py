"""Metrics, events and rollouts: what is read equals what was written, torn ends and NaN included."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from posttrain.core.types import Grade, Group, Message, Rollout, Sampling, Task, TokenRow, floats, ints
from posttrain.records.events import append_event, read_events
from posttrain.records.metrics import MetricsWriter, read_metrics
from posttrain.records.paths import RunPaths
from posttrain.records.rollouts import read_rollouts, write_rollouts


def test_resumed_metrics_equal_uninterrupted_ones(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    with MetricsWriter(whole) as writer:
        for step in range(6):
            writer.write(step, {"loss": 1 / (step + 1)})
    with MetricsWriter(broken) as writer:
        for step in range(4):
            writer.write(step, {"loss": 1 / (step + 1)})
    with broken.open("a") as file:
        file.write('{"step": 4, "lo')  # the kill
    with MetricsWriter(broken, keep_until=2) as writer:
        for step in range(3, 6):
            writer.write(step, {"loss": 1 / (step + 1)})
    assert broken.read_bytes() == whole.read_bytes()


def test_a_fresh_writer_starts_empty(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path / "m.jsonl") as writer:
        writer.write(0, {"loss": 1.0})
    MetricsWriter(tmp_path / "m.jsonl").close()
    assert read_metrics(tmp_path / "m.jsonl") == []


def test_nan_is_written_and_read_as_nan(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path / "m.jsonl") as writer:
        writer.write(7, {"loss": math.nan, "grad_norm": math.inf, "kl/k1": -math.inf})
    assert json.loads((tmp_path / "m.jsonl").read_text()) == {
        "step": 7,
        "loss": "NaN",
        "grad_norm": "Infinity",
        "kl/k1": "-Infinity",
    }
    row = read_metrics(tmp_path / "m.jsonl")[0]
    assert math.isnan(row["loss"]) and row["grad_norm"] == math.inf and row["kl/k1"] == -math.inf and row["step"] == 7


def test_an_event_after_a_torn_line_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "stage" / "events.jsonl"
    append_event(path, "started", seed=3)
    with path.open("a") as file:
        file.write('{"time": "20')
    append_event(path, "resumed", step=5)
    assert [(e["event"], e.get("seed"), e.get("step")) for e in read_events(path)] == [("started", 3, None), ("resumed", None, 5)]


def rollout(sample: int, status: str = "done", grade: Grade | None = None) -> Rollout:
    task = Task("t/1", (Message("user", "2 + 2?"),), answer="4", slices={"operation": "add"})
    row = TokenRow(ints([5, 6, 7]), ints([0, 1, 1]), floats([0, -0.5, -0.25]), ints([-1, 3, 4]))
    messages = (*task.messages, Message("assistant", "four \x1b[31m<b>"))
    return Rollout(task, sample, messages, (row,), Sampling(), status, grade)  # type: ignore[arg-type]


def test_rollouts_come_back_as_they_were(tmp_path: Path) -> None:
    graded = rollout(0, grade=Grade(1.5, True, answer="4", explanation="equal", parts={"math": 1.0, "format": None}))
    group = Group(graded.task, (graded, rollout(1, "truncated", Grade.error("hung")), rollout(2, "failed")))
    write_rollouts(tmp_path / "step-000002.parquet", 2, [group], {("t/1", 0): 0.75}, suite="train")
    write_rollouts(tmp_path / "step-000001.parquet", 1, [group])
    records = list(read_rollouts(tmp_path))
    assert [record.step for record in records] == [1, 1, 1, 2, 2, 2]
    first, second, third = records[3:]
    assert first.prompt == [{"role": "user", "content": "2 + 2?"}] and first.completion == "four \x1b[31m<b>"
    assert (first.score, first.passed, first.answer, first.reference) == (1.5, True, "4", "4")
    assert first.parts == {"math": 1.0, "format": None} and first.slices == {"operation": "add"}
    assert (first.tokens, first.logprob, first.version, first.advantage, first.suite) == (2, -0.75, 4, 0.75, "train")
    assert (second.score, second.passed, second.grade_status, second.finish) == (None, None, "error", "length")
    assert (third.grade_status, third.finish, third.advantage) == ("unscored", "abort", None)


def test_no_rollouts_make_a_file_with_the_same_columns(tmp_path: Path) -> None:
    write_rollouts(tmp_path / "empty.parquet", 0, [])
    assert list(read_rollouts(tmp_path / "empty.parquet")) == []
    assert {"step", "prompt", "completion", "advantage"} <= set(pq.read_schema(tmp_path / "empty.parquet").names)


@pytest.mark.parametrize("stage_id", ["", "..", "../x", "/etc", "a/b/c", "a//b", ".hidden", "a b", "a\\b", "-x"])
def test_a_stage_id_is_never_a_path(tmp_path: Path, stage_id: str) -> None:
    with pytest.raises(ValueError, match="not a stage id"):
        RunPaths(tmp_path).stage(stage_id)


def test_a_round_is_a_folder(tmp_path: Path) -> None:
    assert RunPaths(tmp_path).stage("round-1/train").metrics == tmp_path / "round-1" / "train" / "metrics.jsonl"
