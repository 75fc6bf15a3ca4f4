"""Promises 1, 2 and 7 on a whole recipe: killed or interrupted anywhere and run again, it ends in the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from posttrain.records.paths import RunPaths
from posttrain.records.summary import read_summary
from tests.stages.helpers import fingerprint, run, write_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    runs = tmp_path_factory.mktemp("undisturbed")
    done = run(recipe, runs)
    assert done.returncode == 0, done.stderr
    return runs / "toy", fingerprint(runs / "toy")


def test_a_whole_recipe_leaves_what_it_promises(undisturbed: tuple[Path, dict[str, str]]) -> None:
    root, _ = undisturbed
    summary = read_summary(RunPaths(root))
    assert [stage.status for stage in summary.stages] == ["done"] * 6
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors", "metrics.jsonl", "manifest.json", "config.yaml"):
        assert (root / "rl" / name).exists(), name
    assert (root / "report.html").stat().st_size > 5000
    assert (root / "why/diagnosis.json").exists()


@pytest.mark.parametrize(
    "fault",
    [
        "step:done:4=kill",  # in sft, two steps after a checkpoint
        "step:done:10=kill",  # in grpo
        "save:before-rename:2=kill",  # in the middle of a checkpoint
        "save:after-rename:1=kill",
        "sampled:chunk:2=kill",  # in best-of-n, after sampling and before the choice
    ],
)
def test_killed_and_run_again(recipe: Path, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path, fault: str) -> None:
    killed = run(recipe, tmp_path, fault=fault)
    assert killed.returncode == -9, killed.stderr
    again = run(recipe, tmp_path)
    assert again.returncode == 0, again.stderr
    assert fingerprint(tmp_path / "toy") == undisturbed[1]


@pytest.mark.parametrize(("action", "code"), [("interrupt", 130), ("term", 143)])
def test_interrupted_cleanly(
    recipe: Path, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path, action: str, code: int
) -> None:
    stopped = run(recipe, tmp_path, fault=f"step:done:9={action}")
    assert stopped.returncode == code, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "checkpoint was written" in stopped.stderr
    assert run(recipe, tmp_path).returncode == 0
    assert fingerprint(tmp_path / "toy") == undisturbed[1]


def test_a_full_disk_loses_nothing(recipe: Path, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    failed = run(recipe, tmp_path, fault="save:before-manifest:2=enospc")
    assert failed.returncode == 4, failed.stderr
    assert "disk is full" in failed.stderr
    assert run(recipe, tmp_path).returncode == 0
    assert fingerprint(tmp_path / "toy") == undisturbed[1]


def test_nan_ends_the_run_with_its_own_code(recipe: Path, tmp_path: Path) -> None:
    broken = run(recipe, tmp_path, fault="step:loss:8=nan")
    assert broken.returncode == 3, broken.stderr
    assert "not finite" in broken.stderr


def test_a_finished_run_does_nothing_twice(recipe: Path, undisturbed: tuple[Path, dict[str, str]]) -> None:
    root, before = undisturbed
    times = {file: file.stat().st_mtime_ns for file in root.rglob("*.safetensors")}
    assert run(recipe, root.parent).returncode == 0
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*.safetensors")} == times
    assert fingerprint(root) == before
