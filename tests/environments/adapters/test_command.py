"""`posttrain environments`: what there is, tasks into a file that a recipe can name, and wrong input with exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from require import require

from posttrain.data.tasks import read_tasks


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "posttrain.cli", "environments", *arguments], capture_output=True, text=True, check=False
    )


def test_every_environment_is_listed_with_its_settings() -> None:
    done = command("list", "--json")
    found = json.loads(done.stdout)
    assert {"tools", "shop", "gymnasium", "textarena", "reasoning_gym", "bfcl", "openenv"} <= found.keys()
    assert found["shop"]["settings"]["browser"]["default"] == "http" and found["bfcl"]["help"]


def test_tasks_are_written_and_read_back(tmp_path: Path) -> None:
    require("gymnasium")
    out = tmp_path / "lake.jsonl"
    done = command("tasks", "gymnasium", "--set", "id=FrozenLake-v1", "--count", "5", "--split", "test", "--out", str(out))
    assert done.returncode == 0 and "5 test tasks" in done.stdout, done.stderr
    found = list(read_tasks(out))
    assert len({task.id for task in found}) == 5 and all(task.metadata["seed"] % 2 == 1 for task in found)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["gymnasiums"], "Did you mean gymnasium?"),
        (["gymnasium"], "id"),
        (["gymnasium", "--set", "id=FrozenLake-v1", "--set", "colour=red"], "colour"),
        (["gymnasium", "--set", "id"], "expected key=value"),
        (["gymnasium", "--set", "id=FrozenLake-v1", "--split", "dev"], "--split is 'dev'"),
        (["gymnasium", "--set", "id=NoSuch-v1"], "NoSuch-v1"),
        (["textarena", "--set", "game=Wordle-v0"], "without a network"),
    ],
)
def test_wrong_input_is_exit_2(arguments: list[str], told: str, tmp_path: Path) -> None:
    require("gymnasium")
    require("textarena")
    done = command("tasks", *arguments, "--out", str(tmp_path / "tasks.jsonl"))
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())
