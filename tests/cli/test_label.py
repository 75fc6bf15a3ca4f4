"""`posttrain label` at the keyboard: blind, with undo and resume; what was said is labels and stands in the report's remark."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from posttrain.core.types import Grade, Group, Message, Rollout, Sampling, Task, TokenRow, floats, ints
from posttrain.data.labels import read_labels
from posttrain.diagnosis.spot_checks import spot_checks
from posttrain.evaluation.spot_checks import queue
from posttrain.records.paths import StagePaths
from posttrain.records.rollouts import read_rollouts, write_rollouts

ROW = TokenRow(ints([1, 2]), ints([0, 1]), floats([0, -1]), ints([-1, 0]))


def rollout(number: int) -> Rollout:
    task = Task(f"t{number}", (Message("user", f"question {number}"),))
    parts = {"a": number / 10, "b": 1.0 if number == 3 else number / 10}
    grade = Grade(number / 10, number >= 5, parts=parts, explanation="SHOWN TO NOBODY")
    text = f"answer {number}\x1b[31m"
    return Rollout(task, 0, (*task.messages, Message("assistant", text)), (ROW,), Sampling(), grade=grade)


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    folder = tmp_path / "runs/r/rl"
    groups = [Group(each.task, (each,)) for each in map(rollout, range(10))]
    write_rollouts(folder / "rollouts/step-000000.parquet", 0, groups)
    (folder / "config.yaml").write_text("kind: grpo\n")
    return folder


def sit(posttrain: Any, monkeypatch: pytest.MonkeyPatch, *keys: str, rater: str = "ann") -> Any:
    typed = iter(keys)

    def answer(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)
    return posttrain("label", "r/rl", "--count", "6", "--rater", rater)


def test_a_sitting_with_undo_resume_and_a_second_person(stage: Path, posttrain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sit(posttrain, monkeypatch, "y", "n", "u", "what", "y", "q")
    assert first.code == 0, first.err
    lines = [json.loads(line) for line in (stage / "labels.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == [1, 1] and "2 answers judged by ann" in first.out
    for hidden in ("SHOWN TO NOBODY", "random", "reward", "0.5", "\x1b"):
        assert hidden not in first.out
    assert "── 1 of 6" in first.out and "\\x1b[31m" in first.out
    second = sit(posttrain, monkeypatch, "n", "s", "n", "n")
    assert "── 3 of 6" in second.out and "── 1 of 6" not in second.out and "5 answers judged by ann" in second.out
    assert sit(posttrain, monkeypatch, *"yyyyyy", rater="bob").code == 0
    assert len((stage / "labels.jsonl").read_text().splitlines()) == 11
    labels = read_labels(str(stage / "labels.jsonl"))
    assert sorted(len(row.labels) for row in labels) == [1, 2, 2, 2, 2, 2]
    said = spot_checks(SimpleNamespace(paths=StagePaths(stage)))  # type: ignore[arg-type]
    assert said.startswith("11 judgements of 2 people; the graders say the same of") and "among themselves: kappa" in said


def test_the_queue_holds_the_highest_reward_and_the_widest_disagreement_and_repeats(stage: Path) -> None:
    records = list(read_rollouts(stage / "rollouts"))
    found = queue(records, 6, seed=1)
    names = {check.record.task_id: check.stratum for check in found}
    assert len(names) == 6 and sorted(names.values()) == ["disagreement"] * 2 + ["random"] * 2 + ["reward"] * 2
    assert {"t9", "t3"} <= set(names)
    assert [c.record.task_id for c in queue(records, 6, seed=1)] == [c.record.task_id for c in found]
    assert [c.record.task_id for c in queue(records, 6, seed=2)] != [c.record.task_id for c in found]
    assert len(queue(records, 99, seed=0)) == 10


def test_a_stage_without_answers(tmp_path: Path, posttrain: Any) -> None:
    (tmp_path / "runs/r/sft").mkdir(parents=True)
    (tmp_path / "runs/r/sft/config.yaml").write_text("kind: sft\n")
    found = posttrain("label", "r/sft")
    assert found.code == 2 and "kept no answers" in found.err
