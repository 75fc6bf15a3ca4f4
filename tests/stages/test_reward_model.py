"""The stage through the real command: what it leaves, killed and run again, and what a grpo stage makes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from posttrain.core.config import KeepConfig
from posttrain.core.types import Pair, ints
from posttrain.data.preference_store import PreferenceStore, PreferenceStoreWriter
from posttrain.records.metrics import read_metrics
from posttrain.stages.best_of_n import worth
from posttrain.stages.preference_rows import hold_out_prompts, oriented
from tests.stages.helpers import fingerprint, run
from tests.stages.reward_model_recipe import write_recipe


def prints(root: Path) -> dict[str, str]:
    """The bytes of all weights and metrics, and what is written beside the weights."""
    return {**fingerprint(root), "about": (root / "reward/model/reward_model.json").read_text()}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), members="members: 2")


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("undisturbed")
    done = run(recipe, runs)
    assert done.returncode == 0, done.stderr
    assert "of 24 held-out pairs in order" in done.stderr
    return runs / "toy"


def test_what_the_stage_leaves(undisturbed: Path) -> None:
    summary = json.loads((undisturbed / "reward/result.json").read_text())["summary"]
    assert (summary["preferences"], summary["answers"], summary["pairs"]) == (40, 120, 120)
    held_out = summary["held_out"]
    assert held_out["accuracy"]["low"] > 0.5 and held_out["accuracy"]["n"] == 8 and held_out["pairs"] == 24
    assert 0 <= held_out["brier"] < 0.25 and sum(each["n"] for each in held_out["reliability"]) == 24
    assert len(held_out["ensemble"]["members"]) == 2
    assert all(std > 0 for std in summary["scale"]["std"])
    assert "held out, accuracy" in (undisturbed / "report.html").read_text()
    metrics = read_metrics(undisturbed / "reward/metrics.jsonl")
    assert len(metrics) == 6 and {"loss", "accuracy", "reward/mean", "grad_norm"} <= metrics[0].keys()
    assert [row["step"] for row in metrics if "accuracy/validation" in row] == [2, 5]


def test_a_stage_that_is_rewarded_by_it_learns_from_scores_without_verdicts(undisturbed: Path) -> None:
    metrics = read_metrics(undisturbed / "rl/metrics.jsonl")
    assert len(metrics) == 3 and all("passed" not in row and row["reward/std"] > 0 for row in metrics)
    assert all(row["reward/reward_model/std"] > 0 and row["rollouts/unscored"] == 0 for row in metrics)
    chosen = [json.loads(line) for line in (undisturbed / "best/data.jsonl").read_text().splitlines()]
    assert len(chosen) == 6 and all(isinstance(line["provenance"]["score"], float) for line in chosen)
    assert json.loads((undisturbed / "best/result.json").read_text())["summary"]["curve"] == []
    measured = json.loads((undisturbed / "end/result.json").read_text())["evaluations"]["s"]
    assert measured["pass@1"]["value"] is None and isinstance(measured["mean_score"], float) and measured["unscored"] == 6


def test_killed_and_run_again(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Killed while the reward model is being saved, two steps after its last checkpoint; then in grpo, which goes on with
    rewards from the same model."""
    for fault in ("save:before-rename:3=kill", "step:done:5=kill"):
        killed = run(recipe, tmp_path, fault=fault)
        assert killed.returncode == -9, killed.stderr
        assert not (tmp_path / "toy/best").exists()
    assert (tmp_path / "toy/rl/checkpoints").exists() and (tmp_path / "toy/reward/manifest.json").exists()
    again = run(recipe, tmp_path)
    assert again.returncode == 0, again.stderr
    assert prints(tmp_path / "toy") == prints(undisturbed)


def store_of(folder: Path, prompts: list[int]) -> PreferenceStore:
    with PreferenceStoreWriter(folder / "rows") as writer:
        for number, prompt in enumerate(prompts):
            rows = [(ints([number, 7, 8]), ints([0, 1, 1])), (ints([number, 9]), ints([0, 1]))]
            writer.append(rows, [Pair(0, 1, 0.75, None), Pair(1, 0, 0.5, 1.5)], prompt)
    return PreferenceStore(folder / "rows")


def test_the_store_gives_back_what_was_written(tmp_path: Path) -> None:
    store = store_of(tmp_path, [5, 6])
    assert len(store) == 2 and store.prompt(1) == 6
    assert [row.tolist() for row in store[1].rows] == [[1, 7, 8], [1, 9]]
    assert [mask.tolist() for mask in store[1].masks] == [[0, 1, 1], [0, 1]]
    assert list(store[1].pairs) == [Pair(0, 1, 0.75, None), Pair(1, 0, 0.5, 1.5)]
    with pytest.raises(IndexError):
        store[2]


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), PreferenceStoreWriter(tmp_path / "rows"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_is_held_out_with_all_its_preferences(tmp_path: Path) -> None:
    store = store_of(tmp_path, [1, 2, 3, 1, 2, 3, 4])
    train, held_out = hold_out_prompts(store, 0.5, seed=0)
    assert sorted([*train, *held_out]) == list(range(7)) and held_out
    assert not {store.prompt(i) for i in train} & {store.prompt(i) for i in held_out}
    assert hold_out_prompts(store, 0.5, seed=0) == (train, held_out)
    assert not hold_out_prompts(store, 0.0, seed=0)[1]
    assert hold_out_prompts(store, 0.99, seed=0)[0]  # some are always left to train on


def test_pairs_stand_with_the_likelier_first() -> None:
    place = {0: 0, 2: 1}
    assert oriented(Pair(0, 2, 0.9, 1.0), place) == Pair(0, 1, 0.9, 1.0)
    turned = oriented(Pair(0, 2, 0.25, 1.0), place)
    assert turned == Pair(1, 0, 0.75, -1.0)


@dataclass(frozen=True)
class Judged:
    task_id: str
    passed: bool | None
    rollout_status: str = "done"
    completion: str = "x"
    score: float = 1.0
    tokens: int = 1
    grade_status: str = "scored"


def test_what_choosing_is_worth_by_hand() -> None:
    """Two tasks: one with a right answer among two that could be chosen, which is, and one without. A third sample of each was
    cut off, so the filters dropped it, and that is not the grader's merit."""
    records = [Judged("a", True), Judged("a", False), Judged("b", False), Judged("b", False)]
    cut = [Judged(task, False, "truncated") for task in "ab"]
    keep = KeepConfig(passed=False)
    found = worth([records[0], records[2]], [*records, *cut], keep, lambda text: True)  # type: ignore[list-item]
    assert [found[name]["value"] for name in ("chosen", "could_be_chosen")] == [0.5, 0.25]
    assert found["one_sample"]["value"] == pytest.approx(1 / 6)
    assert found["difference"]["difference"] == 0.25 and found["difference"]["fixed"] == 1
    assert worth([Judged("a", None)], [Judged("a", None)], keep, lambda text: True) == {}  # type: ignore[list-item]
