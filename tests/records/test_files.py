"""Nothing finished is lost, nothing torn is taken for whole: real processes are killed, a real disk runs full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from posttrain.core.errors import EnvironmentFailed
from posttrain.records.files import (
    MANIFEST,
    commit_directory,
    free_space,
    prune,
    recover,
    saving,
    tidy,
    verify,
    write_atomic,
    write_json,
    write_manifest,
)

SAVE = """
import sys
from pathlib import Path
from posttrain.records.files import prune, saving
folder, name, text = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with saving(folder / name) as temporary:
    (temporary / "weights").write_text(text * 1000)
    (temporary / "deep").mkdir()
    (temporary / "deep" / "state").write_text(text)
prune(folder, keep=1)
"""


def save(folder: Path, name: str, text: str, fault: str = "") -> int:
    environment = {**os.environ, **({"POSTTRAIN_FAULT": fault} if fault else {})}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    return subprocess.run([sys.executable, "-c", SAVE, str(folder), name, text], env=environment, check=False).returncode


def whole(folder: Path) -> dict[str, str]:
    """The committed directories and what they hold, as a reader sees them."""
    found = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and not verify(path)]
    return {path.name: (path / "deep" / "state").read_text() for path in found}


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("save:before-write", {"step-1": "a"}),
        ("save:before-manifest", {"step-1": "a"}),
        ("save:before-rename", {"step-1": "a"}),
        ("save:after-rename", {"step-1": "a", "step-2": "b"}),
        ("save:during-prune", {"step-2": "b"}),
    ],
)
def test_kill_at_every_point_leaves_only_whole_directories(tmp_path: Path, point: str, left: dict[str, str]) -> None:
    assert save(tmp_path, "step-1", "a") == 0
    assert save(tmp_path, "step-2", "b", f"{point}=kill") == -signal.SIGKILL
    assert whole(tmp_path) == left
    assert all(not verify(path) for path in tmp_path.iterdir() if not path.name.startswith("."))
    tidy(tmp_path)  # the next process clears up and goes on
    assert whole(tmp_path) == left
    assert save(tmp_path, "step-3", "c") == 0
    assert whole(tmp_path) == {"step-3": "c"}
    assert [path.name for path in tmp_path.iterdir()] == ["step-3"]


@pytest.mark.parametrize("point", ["save:before-write", "save:before-manifest", "save:before-rename", "save:after-rename"])
def test_kill_while_replacing_leaves_the_old_or_the_new(tmp_path: Path, point: str) -> None:
    assert save(tmp_path, "model", "old") == 0
    assert save(tmp_path, "model", "new", f"{point}=kill") == -signal.SIGKILL
    assert whole(tmp_path) == {"model": "new" if point == "save:after-rename" else "old"}


def test_recover_puts_back_what_a_kill_between_two_renames_moved_aside(tmp_path: Path) -> None:
    assert save(tmp_path, "model", "old") == 0
    (tmp_path / "model").rename(tmp_path / ".model.old")
    recover(tmp_path)
    assert whole(tmp_path) == {"model": "old"}


def test_full_disk_at_any_write_is_said_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert save(tmp_path, "step-1", "a") == 0
    monkeypatch.setenv("POSTTRAIN_FAULT", "save:before-manifest=enospc")
    monkeypatch.setattr("posttrain.core.faults._passages", {})
    with pytest.raises(EnvironmentFailed, match="disk is full"), saving(tmp_path / "step-2") as temporary:
        (temporary / "weights").write_text("b")
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    assert verify(tmp_path / "step-1") == []


def test_full_disk_for_real(tmpfs: Path) -> None:
    with saving(tmpfs / "step-1") as temporary:
        (temporary / "weights").write_bytes(b"a" * 400_000)
    with pytest.raises(EnvironmentFailed, match="disk is full") as caught, saving(tmpfs / "step-2") as temporary:
        (temporary / "weights").write_bytes(b"b" * 2_000_000)
    assert caught.value.exit_code == 4 and "Free some space" in caught.value.fix
    with pytest.raises(EnvironmentFailed):
        write_atomic(tmpfs / "data.jsonl", b"c" * 2_000_000)
    with pytest.raises(EnvironmentFailed, match="disk is full"), saving(tmpfs / "step-3") as temporary:
        save_file({"weights": np.zeros(500_000)}, temporary / "model.safetensors")  # which raises an error of its own
    assert [path.name for path in tmpfs.iterdir()] == ["step-1"]
    assert verify(tmpfs / "step-1") == []
    assert free_space(tmpfs / "not" / "yet") > 400_000  # the temporaries were given back


def test_verify_names_each_kind_of_damage(tmp_path: Path) -> None:
    with saving(tmp_path / "model") as temporary:
        for name in ("changed", "gone", "short"):
            (temporary / name).write_text("12345678")
    (tmp_path / "model" / "changed").write_text("1234567x")
    (tmp_path / "model" / "gone").unlink()
    (tmp_path / "model" / "short").write_text("1234")
    problems = verify(tmp_path / "model")
    assert [problem.split("/")[-1] for problem in problems] == [
        "changed was changed after it was saved",
        "gone is missing",
        "short has 4 bytes, not 8",
    ]
    (tmp_path / "model" / MANIFEST).write_text('{"files": {')
    assert "damaged" in verify(tmp_path / "model")[0]
    (tmp_path / "model" / MANIFEST).unlink()
    assert "never completed" in verify(tmp_path / "model")[0]


def test_an_exception_while_writing_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), saving(tmp_path / "model") as temporary:
        (temporary / "weights").write_text("half")
        raise RuntimeError("the writer failed")
    assert list(tmp_path.iterdir()) == []


def test_commit_of_a_directory_somebody_else_wrote(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a").write_text("1")
    commit_directory(tmp_path / "work", tmp_path / "final")
    assert verify(tmp_path / "final") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final"]


def test_manifest_skips_hidden_files_and_named_folders(tmp_path: Path) -> None:
    for name in ("kept.json", "checkpoints/step-1/weights", ".lock", "rollouts/.0.tmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    write_manifest(tmp_path, tmp_path / "manifest.json", skip=("checkpoints",), fingerprint="f")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["fingerprint"] == "f" and list(manifest["files"]) == ["kept.json"]
    assert verify(tmp_path, "manifest.json") == []


def test_prune_keeps_the_last_by_name_and_spares_the_uncommitted(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        with saving(tmp_path / f"step-{step:06d}") as temporary:
            (temporary / "weights").write_text(str(step))
    (tmp_path / "notes").mkdir()
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "step-000002", "step-000010"]


def test_json_refuses_nan_and_keeps_the_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"value": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"value": 1}
