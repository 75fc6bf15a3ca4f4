"""A run finishes, skips, resumes and refuses as promised. Processes are really killed; disks are really full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pipeline import fake_stages
from pipeline.conftest import RECIPE
from pipeline.fake_stages import KINDS
from require import require

from posttrain.core.errors import EnvironmentFailed, Interrupted, PromiseBroken, UserError
from posttrain.core.stage import Stop
from posttrain.pipeline.parse import load_recipe
from posttrain.pipeline.run import load_run, resume, run
from posttrain.records.events import read_events
from posttrain.records.files import verify
from posttrain.records.metrics import read_metrics
from posttrain.records.paths import RunPaths
from posttrain.records.summary import read_json, read_summary


class Told:
    """A Reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, work: str, total: int) -> None: ...

    def advance(self, count: int = 1, **shown: float) -> None: ...

    def finish(self) -> None: ...

    def say(self, text: str) -> None:
        self.lines.append(text)


def go(recipe: Path, runs: Path, *overrides: str, **options: Any) -> Told:
    told = Told()
    run(load_recipe(str(recipe), overrides=overrides), runs, reporter=told, kinds=options.pop("kinds", KINDS), **options)
    return told


def outcome(root: Path) -> dict[str, Any]:
    """Everything a run computed, without the times at which it did."""
    paths = RunPaths(root)
    found: dict[str, Any] = {}
    for stage in read_summary(paths).stages:
        folder = paths.stage(stage.id)
        files = read_json(folder.manifest)["files"] if folder.manifest.exists() else {}
        timed = ("events.jsonl", "result.json", "manifest.json")
        found[stage.id] = (
            stage.status,
            stage.evaluations,
            {name: entry["sha256"] for name, entry in files.items() if name not in timed},
        )
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "recipe.yaml").write_text(RECIPE)
    go(folder / "recipe.yaml", folder)
    return outcome(folder / "small")


def process(recipe: Path, runs: Path, fault: str = "", name: str = "small") -> int:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "POSTTRAIN_FAULT": fault}
    command = [sys.executable, fake_stages.__file__, str(recipe), str(runs), name]
    return subprocess.run(command, env=environment, check=False, capture_output=True).returncode


def test_a_run_leaves_records_that_tell_all(recipe_file: Path, tmp_path: Path) -> None:
    go(recipe_file, tmp_path / "runs", report=lambda root: root / "report.html")
    paths = RunPaths(tmp_path / "runs" / "small")
    summary = json.loads(paths.summary.read_text())
    assert list(summary) == ["name", "recipe", "model", "status", "wall_s", "stages"]
    assert (summary["name"], summary["status"]) == ("small", "done")
    assert [stage["id"] for stage in summary["stages"]] == ["start", "sft", "rl", "best", "last", "end", "why"]
    assert list(summary["stages"][5]) == ["id", "kind", "status", "wall_s", "model", "evaluations"]
    assert summary["stages"][5]["evaluations"]["test"]["pass@1"]["n"] == 3
    assert summary["stages"][1]["model"] == "sft/model" and summary["stages"][5]["model"] == "last"
    lineage = {stage["id"]: stage for stage in json.loads(paths.lineage.read_text())["stages"]}
    assert lineage["rl"]["parents"]["sft"] == lineage["sft"]["fingerprint"]
    assert lineage["last"]["parents"] == {"rl": lineage["rl"]["fingerprint"], "best": lineage["best"]["fingerprint"]}
    assert lineage["rl"]["artefacts"] == {"model": "rl/model"} and "python" in lineage["rl"]["versions"]
    for stage in summary["stages"]:
        assert verify(paths.stage(stage["id"]).directory, "manifest.json") == []
    assert load_run("small", tmp_path / "runs") == load_recipe(str(recipe_file))


def test_references_reach_the_stages(recipe_file: Path, tmp_path: Path) -> None:
    seen: dict[str, Mapping[str, str]] = {}

    def watched(kind: str) -> Any:
        def work(config: Any, context: Any) -> Any:
            seen[context.id] = context.references
            return KINDS[kind](config, context)

        return work

    go(recipe_file, tmp_path, kinds={kind: watched(kind) for kind in KINDS})
    root = tmp_path / "small"
    assert seen["start"] == {"base": "toy", "builtin:arithmetic": "builtin:arithmetic"}
    assert seen["last"] == {"rl": str(root / "rl" / "model"), "best": str(root / "best" / "data.jsonl")}
    assert seen["why"] == {"end": str(root / "end"), "start": str(root / "start"), "builtin:arithmetic": "builtin:arithmetic"}


def test_a_second_run_does_nothing(recipe_file: Path, tmp_path: Path) -> None:
    go(recipe_file, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "small").rglob("manifest.json")}
    told = go(recipe_file, tmp_path, kinds={})  # no stage is called
    assert len(before) == 7 and sum("skipped" in line for line in told.lines) == 7
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "small").rglob("manifest.json")} == before


def test_a_changed_setting_runs_what_depends_on_it_and_keeps_the_old(recipe_file: Path, tmp_path: Path) -> None:
    go(recipe_file, tmp_path)
    old = (tmp_path / "small" / "rl" / "manifest.json").read_text()
    told = go(recipe_file, tmp_path, "rl.steps=7")
    skipped = [line.split("] ")[1].split(" ")[0] for line in told.lines if "skipped" in line]
    assert skipped == ["start", "sft"]
    assert (tmp_path / "small" / ".old" / "rl-1" / "manifest.json").read_text() == old


@pytest.mark.parametrize("setting", ["sft.micro_batch_tokens=64", "sft.checkpoint_every=7", "rl.keep_checkpoints=3"])
def test_settings_that_change_no_result_run_nothing(recipe_file: Path, tmp_path: Path, setting: str) -> None:
    go(recipe_file, tmp_path)
    assert sum("skipped" in line for line in go(recipe_file, tmp_path, setting, kinds={}).lines) == 7


def test_changed_file_content_runs_the_stage_again_and_a_moved_file_does_not(recipe_file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("one")
    recipe_file.write_text(recipe_file.read_text().replace("data: builtin:arithmetic", "data: ./a.jsonl"))
    go(recipe_file, tmp_path / "runs")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("a.jsonl", "recipe.yaml"):
        (moved / name).write_text((tmp_path / name).read_text())
    assert sum("skipped" in line for line in go(moved / "recipe.yaml", tmp_path / "runs", kinds={}).lines) == 7
    (moved / "a.jsonl").write_text("two")
    assert sum("skipped" in line for line in go(moved / "recipe.yaml", tmp_path / "runs").lines) == 1  # only the first measure


def test_a_damaged_stage_is_noticed_and_runs_again(recipe_file: Path, tmp_path: Path) -> None:
    go(recipe_file, tmp_path)
    expected = outcome(tmp_path / "small")
    (tmp_path / "small" / "sft" / "model" / "weights").write_text("123")
    told = go(recipe_file, tmp_path)
    assert any("damaged" in line for line in told.lines) and sum("skipped" in line for line in told.lines) == 6
    assert outcome(tmp_path / "small") == expected


SAVES = [
    f"save:{point}:{passage}"
    for point in ("before-write", "before-manifest", "before-rename", "after-rename")
    for passage in (1, 4)
]


@pytest.mark.parametrize("point", [*SAVES, "save:during-prune:2", "fake:step:2", "fake:step:5", "fake:step:9"])
def test_killed_anywhere_and_resumed_equals_uninterrupted(
    recipe_file: Path, tmp_path: Path, point: str, uninterrupted: dict[str, Any]
) -> None:
    assert process(recipe_file, tmp_path / "killed", f"{point}=kill") == -signal.SIGKILL
    root = tmp_path / "killed" / "small"
    for manifest in root.rglob("manifest.json"):
        assert verify(manifest.parent, "manifest.json") == []
    for committed in root.rglob("MANIFEST.json"):
        assert verify(committed.parent) == [] or any(part.startswith(".") for part in committed.parts)
    finished = {path.parent.name for path in root.rglob("manifest.json")}
    told = Told()
    resume("small", tmp_path / "killed", reporter=told, kinds=KINDS)
    assert sum("skipped" in line for line in told.lines) == len(finished)
    assert outcome(root) == uninterrupted
    assert not list(root.rglob(".*.tmp"))


def test_a_resumed_stage_goes_on_from_its_checkpoint(recipe_file: Path, tmp_path: Path) -> None:
    assert process(recipe_file, tmp_path, "fake:step:3=kill") == -signal.SIGKILL
    go(recipe_file, tmp_path)
    events = read_events(tmp_path / "small" / "sft" / "events.jsonl")
    assert [event["event"] for event in events] == ["started", "resumed", "from_checkpoint", "finished"]
    assert events[2]["step"] == 2
    assert [row["step"] for row in read_metrics(tmp_path / "small" / "sft" / "metrics.jsonl")] == [0, 1, 2]


def test_an_unfinished_stage_with_other_settings_starts_anew(recipe_file: Path, tmp_path: Path) -> None:
    assert process(recipe_file, tmp_path, "fake:step:3=kill") == -signal.SIGKILL
    go(recipe_file, tmp_path, "sft.learning_rate=1e-3")
    assert [event["event"] for event in read_events(tmp_path / "small" / "sft" / "events.jsonl")] == ["started", "finished"]
    assert (tmp_path / "small" / ".old" / "sft-1" / "checkpoints").is_dir()


def test_a_stop_leaves_a_checkpoint_and_a_summary_that_says_so(recipe_file: Path, tmp_path: Path) -> None:
    stop = Stop()

    def stopping(config: Any, context: Any) -> Any:
        stop.signal = 15
        return KINDS["sft"](config, context)

    with pytest.raises(Interrupted) as caught:
        go(recipe_file, tmp_path, stop=stop, kinds={**KINDS, "sft": stopping})
    assert caught.value.exit_code == 143
    summary = read_summary(RunPaths(tmp_path / "small"))
    assert summary.status == "stopped" and [stage.status for stage in summary.stages[:3]] == ["done", "stopped", "waiting"]
    assert read_events(tmp_path / "small" / "sft" / "events.jsonl")[-1]["event"] == "stopped"
    go(recipe_file, tmp_path)
    assert read_summary(RunPaths(tmp_path / "small")).status == "done"


def test_a_broken_promise_ends_the_run_and_the_report_is_still_written(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_FAULT", "fake:broken=nan")
    monkeypatch.setattr("posttrain.core.faults._passages", {})
    reported: list[Path] = []

    def report(root: Path) -> Path:
        reported.append(root)
        raise UserError("no charts today")  # must not hide what ended the run

    with pytest.raises(PromiseBroken, match="not finite"):
        go(recipe_file, tmp_path, report=report)
    assert reported == [tmp_path / "small"]
    assert read_summary(RunPaths(tmp_path / "small")).stages[1].status == "failed"


def test_two_runs_cannot_share_a_directory(recipe_file: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import sys, time\nsys.path.insert(0, sys.argv[3])\nimport fake_stages\n"
        "from pathlib import Path\nfrom posttrain.pipeline.parse import load_recipe\nfrom posttrain.pipeline.run import run\n"
        "def wait(config, context):\n    print('here', flush=True)\n    time.sleep(60)\n"
        "run(load_recipe(sys.argv[1]), Path(sys.argv[2]), kinds={**fake_stages.KINDS, 'sft': wait})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(slow), str(recipe_file), str(tmp_path), str(Path(fake_stages.__file__).parent)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "here\n"
        with pytest.raises(UserError, match=f"in use by another run \\(process {first.pid}\\)") as caught:
            go(recipe_file, tmp_path)
        assert "--name" in caught.value.fix
        go(recipe_file, tmp_path, name="other")
        first.kill()
    time.sleep(0)
    go(recipe_file, tmp_path)  # the lock went with its process
    assert outcome(tmp_path / "small") == outcome(tmp_path / "other")


class TestRefusals:
    def refused(self, recipe: Path, runs: Path, *overrides: str, **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            go(recipe, runs, *overrides, **options)
        return str(caught.value)

    def test_a_directory_of_another_recipe(self, recipe_file: Path, tmp_path: Path) -> None:
        go(recipe_file, tmp_path)
        before = outcome(tmp_path / "small")
        recipe_file.write_text(recipe_file.read_text().replace("name: small", "name: other"))
        said = self.refused(recipe_file, tmp_path, name="small")
        assert "holds a run of recipe 'small', not 'other'. Choose --name OTHER, or delete" in said
        assert outcome(tmp_path / "small") == before

    def test_a_directory_of_another_scale(self, recipe_file: Path, tmp_path: Path) -> None:
        go(recipe_file, tmp_path)
        recipe_file.write_text(recipe_file.read_text() + "scales: {tiny: {}}\n")
        assert "holds a run of scale 'none', not 'tiny'" in self.refused(recipe_file, tmp_path)

    def test_a_directory_that_is_no_run(self, recipe_file: Path, tmp_path: Path) -> None:
        (tmp_path / "small").mkdir()
        (tmp_path / "small" / "thesis.tex").write_text("precious")
        assert "exists and is not a run of posttrain" in self.refused(recipe_file, tmp_path)
        assert (tmp_path / "small" / "thesis.tex").read_text() == "precious"

    def test_a_file_in_its_place(self, recipe_file: Path, tmp_path: Path) -> None:
        (tmp_path / "small").write_text("precious")
        assert "is a file" in self.refused(recipe_file, tmp_path)

    @pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", ""])
    def test_a_name_that_is_a_path(self, recipe_file: Path, tmp_path: Path, name: str) -> None:
        if name:
            assert "not a plain name" in self.refused(recipe_file, tmp_path, name=name)
        else:
            go(recipe_file, tmp_path, name=None)

    def test_a_cluster(self, recipe_file: Path, tmp_path: Path) -> None:
        recipe_file.write_text(recipe_file.read_text() + "scales: {cluster: {executor: cluster}}\n")
        assert "scale 'cluster' asks for a cluster, for which there is no executor yet" in self.refused(recipe_file, tmp_path)

    def test_resuming_what_is_not_there(self, recipe_file: Path, tmp_path: Path) -> None:
        go(recipe_file, tmp_path)
        with pytest.raises(UserError, match=r"there is no run .smal. in .* Runs there: small"):
            resume("smal", tmp_path)

    def test_an_artefact_outside_of_the_stage_is_a_bug(self, recipe_file: Path, tmp_path: Path) -> None:
        def outside(config: Any, context: Any) -> Any:
            from posttrain.core.stage import StageResult

            return StageResult({"model": tmp_path}, {})

        with pytest.raises(ValueError, match="not inside"):
            go(recipe_file, tmp_path, kinds={**KINDS, "sft": outside})


def test_references_to_another_run(recipe_file: Path, tmp_path: Path) -> None:
    go(recipe_file, tmp_path)
    text = recipe_file.read_text().replace("name: small", "name: next").replace("model: toy", "model: run:small/rl")
    recipe_file.write_text(text)
    go(recipe_file, tmp_path)
    lineage = read_json(RunPaths(tmp_path / "next").lineage)["stages"][0]
    assert lineage["parents"]["base"] == read_json(tmp_path / "small" / "rl" / "manifest.json")["fingerprint"]
    recipe_file.write_text(text.replace("run:small/rl", "run:small/nope"))
    with pytest.raises(UserError, match="that stage is not finished"):
        go(recipe_file, tmp_path)
    (tmp_path / "small" / "rl" / "model" / "weights").write_text("0")
    recipe_file.write_text(text.replace("name: next", "name: third"))
    with pytest.raises(UserError, match="'run:small/rl' is damaged"):
        go(recipe_file, tmp_path)


def test_rounds_run_in_folders_of_their_own(write: Any, tmp_path: Path) -> None:
    path = write(
        "  - {id: start, kind: evaluate, suites: {test: builtin:arithmetic}, graders: math}\n"
        "  - repeat: {times: 2, stages: [{id: train, kind: sft, model: previous/train, data: builtin:arithmetic}]}\n"
    )
    go(path, tmp_path)
    lineage = {stage["id"]: stage for stage in read_json(tmp_path / "x" / "lineage.json")["stages"]}
    assert lineage["round-2/train"]["parents"]["round-1/train"] == lineage["round-1/train"]["fingerprint"]
    assert (tmp_path / "x" / "round-2" / "train" / "model" / "weights").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    mount = require("tmpfs")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run([str(mount), "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk_stops_the_run_and_loses_nothing(recipe_file: Path, small_disk: Path, uninterrupted: dict[str, Any]) -> None:
    full = small_disk / "film.mkv"

    def filling(config: Any, context: Any) -> Any:
        if not full.exists() and not (small_disk / "freed").exists():
            with full.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError:
                    pass
        return KINDS["grpo"](config, context)

    with pytest.raises(EnvironmentFailed, match="disk is full") as caught:
        go(recipe_file, small_disk, kinds={**KINDS, "grpo": filling})
    assert caught.value.exit_code == 4
    assert verify(small_disk / "small" / "sft", "manifest.json") == []
    full.unlink()
    (small_disk / "freed").touch()
    told = go(recipe_file, small_disk, kinds={**KINDS, "grpo": filling})
    assert sum("skipped" in line for line in told.lines) == 2
    assert outcome(small_disk / "small") == uninterrupted
