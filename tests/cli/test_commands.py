"""The commands on a real run of the toy model, in processes of their own: run, killed, stopped, resumed, read."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.conftest import RECIPE

from posttrain.core.config import STAGE_KINDS
from posttrain.records.files import sha256, verify
from posttrain.records.paths import RunPaths

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "posttrain.cli"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "160", **more}


def command(folder: Path, *arguments: str, text: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MODULE, *arguments],
        cwd=folder,
        env=environment(**more),
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recipe.yaml and its finished run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "recipe.yaml").write_text(RECIPE)
    done = command(folder, "run", "recipe.yaml", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)  # progress went to stderr, so this is all of it
    assert summary["status"] == "done" and [stage["status"] for stage in summary["stages"]] == ["done"] * 5
    assert "[3/5] rl (grpo): starting" in done.stderr and "Traceback" not in done.stderr
    return folder


def weights(folder: Path) -> dict[str, str]:
    """The hashes of all finished weights, and the metrics without their times. Checkpoints also hold what is not a result."""
    run = folder / "runs" / "small"
    files = sorted(path for path in run.rglob("*.safetensors") if "checkpoints" not in path.parts)
    found = {str(path.relative_to(run)): sha256(path) for path in files}
    for path in sorted(run.rglob("metrics.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(run))] = str([{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows])
    return found


def test_help_and_check_import_no_torch(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("model: toy", "model: smollm2-135m-instruct"))
    for arguments in (
        ["--help"],
        ["run", "--help"],
        ["recipes"],
        ["schema"],
        ["check", "recipe.yaml"],
        ["check", "rlvr"],
        ["graders", "list"],
    ):
        program = (
            "import sys\nfrom posttrain.cli import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
            "    print([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules], file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "[]\n"), (arguments, done.stderr)


def test_a_second_run_skips_all_and_prints_the_report(finished: Path) -> None:
    done = command(finished, "run", "recipe.yaml")
    assert done.returncode == 0 and done.stderr.count("finished before, skipped") == 5
    assert "report: runs/small/report.html" in done.stdout and (finished / "runs" / "small" / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("fault", ["step:done:2=kill", "step:done:5=kill"])
def test_killed_and_resumed_equals_uninterrupted(finished: Path, tmp_path: Path, fault: str) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    assert command(tmp_path, "run", "recipe.yaml", POSTTRAIN_FAULT=fault).returncode == -signal.SIGKILL
    done = command(tmp_path, "resume", "small")
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stderr
    assert weights(tmp_path) == weights(finished)


@pytest.mark.parametrize(("action", "code"), [("term", 143), ("interrupt", 130)])
def test_a_signal_ends_with_a_checkpoint_and_its_exit_code(finished: Path, tmp_path: Path, action: str, code: int) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = command(tmp_path, "run", "recipe.yaml", POSTTRAIN_FAULT=f"step:done:2={action}")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "stopping after this step" in done.stderr
    assert "again" in done.stderr  # what to do next
    run = RunPaths(tmp_path / "runs" / "small")
    assert json.loads(run.summary.read_text())["status"] == "stopped"
    saved = sorted(run.stage("sft").checkpoints.glob("step-*"))
    assert saved and verify(saved[-1]) == []
    if action == "term":  # what follows is the same for both
        assert command(tmp_path, "run", "recipe.yaml").returncode == 0
        assert weights(tmp_path) == weights(finished)


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    program = (
        "import os, signal, time\nfrom posttrain.cli.stopping import stoppable\nwith stoppable() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    assert stop.signal == signal.SIGINT\n    print('alive', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(30)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stdout) == (130, "alive\n") and "once more to stop at once" in done.stderr


def test_a_reader_that_goes_away_stops_nothing(tmp_path: Path, finished: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with subprocess.Popen(
        [*MODULE, "run", "recipe.yaml"], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stderr is not None and run.stdout is not None
        run.stderr.readline()
        run.stderr.close()
        run.stdout.close()
        assert run.wait(timeout=300) == 0
    assert json.loads((tmp_path / "runs" / "small" / "summary.json").read_text())["status"] == "done"
    assert weights(tmp_path) == weights(finished)


def test_a_closed_pipe_ends_a_listing_quietly(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m posttrain.cli schema | head -c 10"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "" and len(done.stdout) == 10


class TestReading:
    def test_compare(self, finished: Path) -> None:
        done = command(finished, "compare", "small/start", "small/end", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["suites"]["test"]
        assert found["test"]["n"] + found["unmatched"] == 8
        whole = command(finished, "compare", "small")
        assert whole.returncode == 0 and "small/start → small/end" in whole.stdout

    def test_report_is_rebuilt_from_the_records(self, finished: Path) -> None:
        report = finished / "runs" / "small" / "report.html"
        report.unlink()
        done = command(finished, "report", "small")
        assert done.returncode == 0 and finished / done.stdout.strip() == report and report.exists()

    def test_diagnose(self, finished: Path) -> None:
        found = json.loads(command(finished, "diagnose", "small", "--before", "small/start", "--json").stdout)
        assert found["suites"]["test"]["rollouts"] == 8
        shown = command(finished, "diagnose", "small/end")
        assert shown.returncode == 0 and "\x1b" not in shown.stdout

    def test_eval_of_a_stage_keeps_a_run(self, finished: Path) -> None:
        done = command(
            finished, "eval", "run:small/rl", "--suite", "builtin:arithmetic", "--count", "4", "--max-tokens", "4", "--json"
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["evaluations"]["arithmetic"]["pass@1"]["n"] == 4
        assert (finished / "runs" / found["run"] / "summary.json").exists()

    def test_chat_answers_line_by_line_and_hides_nothing_in_the_terminal(self, finished: Path) -> None:
        done = command(finished, "chat", "run:small/sft", "--max-tokens", "8", text="hello\n\n/reset\nagain\n")
        assert done.returncode == 0, done.stderr
        assert all(c.isprintable() or c in "\n\t" for c in done.stdout)


class TestTalking:
    """Commands that need no run, in this process."""

    def test_grade(self, posttrain: Callable) -> None:
        found = posttrain("grade", "math", "--gold", "1/2", "--answer", r"\boxed{0.5}", "--json")
        value = json.loads(found.out)
        assert found.code == 0 and value["passed"] is True and value["score"] == 1.0 and value["status"] == "scored"
        wrong = posttrain("grade", "math", "--gold", "1/2", "--answer", r"\boxed{0.4}")
        assert wrong.code == 0 and wrong.out.startswith("not passed, score 0 (scored); answer: 0.4")

    def test_graders_list_has_every_setting_and_its_help(self, posttrain: Callable) -> None:
        found = json.loads(posttrain("graders", "list", "--json").out)
        assert found["math"]["settings"]["extract"]["default"] == "any"
        assert all(setting["help"] for grader in found.values() for setting in grader["settings"].values())

    def test_graders_test_passes_a_good_one_and_fails_a_generous_one(self, posttrain: Callable, tmp_path: Path) -> None:
        assert posttrain("graders", "test", "math", "--count", "4").code == 0
        (tmp_path / "g.py").write_text("def yes(task, answer):\n    return True\n")
        generous = posttrain("graders", "test", "function", "--set", f"path={tmp_path}/g.py:yes", "--count", "4")
        assert generous.code == 3 and "failed" in generous.err

    def test_recipes_lists_and_prints(self, posttrain: Callable, tmp_path: Path) -> None:
        listed = json.loads(posttrain("recipes", "--json").out)
        assert {"rlvr", "r1-zero", "error-analysis"} <= {each["name"] for each in listed}
        (tmp_path / "copy.yaml").write_text(posttrain("recipes", "rlvr").out)
        assert posttrain("check", "copy.yaml").code == 0

    def test_check_prints_recipe_plan_and_estimate(self, posttrain: Callable) -> None:
        shown = posttrain("check", "recipe.yaml", "--set", "rl.steps=7")
        assert shown.code == 0 and "steps: 7" in shown.out and "rough estimates" in shown.out and "No fault found" in shown.out
        value = json.loads(posttrain("check", "recipe.yaml", "--json").out)
        assert value["recipe"]["stages"][2]["temperature"] == 1.0 and len(value["estimates"]) == 5
        assert value["estimates"][2]["seconds"] > 0 and value["free"] > 0

    def test_schema_accepts_the_shipped_recipes_keys(self, posttrain: Callable) -> None:
        value = json.loads(posttrain("schema").out)
        kinds = [entry for entry in value["properties"]["stages"]["items"]["anyOf"] if "kind" in entry["properties"]]
        assert [entry["properties"]["kind"]["const"] for entry in kinds] == list(STAGE_KINDS) and len(kinds) > 12
        assert all(not entry["additionalProperties"] for entry in kinds)
        described = [s for entry in kinds for name, s in entry["properties"].items() if name != "kind"]
        assert all("description" in setting or "$ref" in setting for setting in described)

    def test_version(self, posttrain: Callable) -> None:
        assert posttrain("--version").out.startswith("posttrain ")


def test_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    program = (
        "from posttrain.cli.progress import reporter\nr = reporter()\nr.say('[1/2] a [x] (b)')\nr.start('learning', 3)\n"
        "for _ in range(3):\n    r.advance(loss=0.5)\nr.finish()\n"
    )
    outer, inner = pty.openpty()
    shown = bytearray()

    def drain() -> None:
        while True:
            try:
                part = os.read(outer, 4096)
            except OSError:
                return
            if not part:
                return
            shown.extend(part)

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    subprocess.run([sys.executable, "-c", program], env=environment(TERM="xterm"), stderr=inner, check=True, timeout=30)
    os.close(inner)
    reader.join(timeout=5)
    text = shown.decode()
    assert "[1/2] a [x] (b)" in text and "learning" in text and "3/3" in text and "time left" in text and "loss 0.5" in text


def test_lines_come_seldom_and_say_what_is_left() -> None:
    import io

    from posttrain.cli.progress import Lines

    clock, stream = iter(range(1000)), io.StringIO()
    lines = Lines(stream, every_s=5, clock=lambda: float(next(clock)))
    lines.start("rl", 20)
    for step in range(20):
        lines.advance(reward=step / 20)
    lines.finish()
    told = stream.getvalue().splitlines()
    assert told[0] == "  rl 5/20, 15 s left, reward 0.2" and told[-1].startswith("  rl 20/20 in 21 s") and len(told) == 5
    lines.say("[dim]a[/dim] \x1b[31mred")
    assert stream.getvalue().splitlines()[-1] == "a \\x1b[31mred"


def test_times_are_measured(finished: Path) -> None:
    summary = json.loads((finished / "runs" / "small" / "summary.json").read_text())
    assert all(stage["wall_s"] >= 0 for stage in summary["stages"]) and summary["wall_s"] > 0
    assert time.time() > (finished / "runs" / "small" / "summary.json").stat().st_mtime
