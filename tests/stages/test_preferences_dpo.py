"""preferences, dpo and online_dpo as a person runs them, killed anywhere and run again; and what is wrong with their input."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import signal
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest

from posttrain.cli import main
from posttrain.core.config import DpoConfig, FunctionGrader, LoraConfig, OnlineDpoConfig, PreferenceSource, Recipe, TaskSource
from posttrain.core.stage import StageContext
from posttrain.models.load import Loaded
from posttrain.models.toy import make_toy
from posttrain.records.metrics import read_metrics
from posttrain.records.summary import read_json
from posttrain.stages.dpo import kept
from posttrain.stages.online_dpo import run as learn_online
from posttrain.training.dpo import Answer, Compared
from posttrain.training.policy import Policy
from tests.stages.helpers import GRADER, run

RECIPE = """
name: toy
source: a test
tradeoff: none
model: ./model
seed: 7
stages:
  - id: start
    kind: evaluate
    model: base
    suites: {s: {source: ./tasks.jsonl}}
    graders: &g [{kind: function, path: "./grader.py:letters"}]
    sampling: {max_tokens: 6}
  - repeat:
      times: 2
      stages:
        - id: pairs
          kind: preferences
          model: previous/learn
          tasks: ./tasks.jsonl
          graders: *g
          sampling: {samples: 8, temperature: 1.0, max_tokens: 6}
          pairing: all
          finished: false
          label_noise: 0.1
        - id: learn
          kind: dpo
          model: previous/learn
          data: pairs
          nll: 0.2
          steps: 5
          batch_size: 4
          learning_rate: 5e-3
          checkpoint_every: 2
          lora: {rank: 4}
          validation: 0.25
          validate_every: 3
          decontaminate: false
  - id: single
    kind: dpo
    model: base
    loss: kto
    data: [pairs, ./labels.jsonl]
    steps: 4
    batch_size: 4
    checkpoint_every: 2
    lora: null
    decontaminate: false
  - id: online
    kind: online_dpo
    model: base
    tasks: ./tasks.jsonl
    graders: *g
    steps: 5
    prompts_per_step: 3
    samples_per_prompt: 4
    max_tokens: 6
    checkpoint_every: 2
    learning_rate: 5e-3
    mask_formatting: true
"""


NO_RECIPE = Recipe(name="x", source="", tradeoff="x", model="toy", stages=[])


def write_recipe(folder: Path) -> Path:
    make_toy(folder / "model", size="tiny")
    (folder / "grader.py").write_text(GRADER)
    tasks = [{"id": f"t{i}", "prompt": f"say {i}", "answer": "x", "slices": {"odd": str(i % 2)}} for i in range(40)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tasks))
    labels = [{"prompt": f"say {i}", "completion": "abc" if i % 2 else "123", "label": bool(i % 2)} for i in range(6)]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


def fingerprint(root: Path) -> dict[str, str]:
    """The bytes of weights, pairs and reference log-probs; the metrics without times."""
    found = {}
    kept = [*root.rglob("*.safetensors"), *root.rglob("*.f32"), *root.rglob("preferences.jsonl"), *root.rglob("rows/*")]
    for file in sorted(file for file in kept if "checkpoints" not in file.parts and file.is_file()):
        content = (
            file.read_text().replace(str(root.parent), "") if file.suffix == ".jsonl" else ""
        )  # provenance names the model's place
        found[str(file.relative_to(root))] = hashlib.sha256(content.encode() or file.read_bytes()).hexdigest()
    for file in sorted(root.rglob("metrics.jsonl")):
        rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_metrics(file)]
        found[str(file.relative_to(root))] = json.dumps(rows, sort_keys=True)
    return found


def command(*arguments: str) -> tuple[int, str]:
    """A command in this process, which has torch loaded already: its exit code and what it said in errors."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as end:
            main(arguments)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert isinstance(end.value.code, int)
    return end.value.code, said.getvalue()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    runs = tmp_path_factory.mktemp("undisturbed")
    code, err = command("run", str(recipe), "--runs", str(runs))
    assert code == 0, err
    return runs / "toy", fingerprint(runs / "toy")


def test_it_leaves_what_it_promises(undisturbed: tuple[Path, dict[str, str]]) -> None:
    root, prints = undisturbed
    lines = [json.loads(line) for line in (root / "round-1/pairs/preferences.jsonl").read_text().splitlines()]
    pairs = [(line, pair, flip) for line in lines for pair, flip in zip(line["pairs"], line["provenance"]["flipped"], strict=True)]
    assert all(line["source"] == "synthetic" and line["provenance"]["gold"] == ["function"] for line in lines)
    for line, pair, flip in pairs:
        scores = line["provenance"]["scores"]
        assert (scores[pair["better"]] < scores[pair["worse"]]) == flip
    assert 0.02 < sum(flip for _, _, flip in pairs) / len(pairs) < 0.25
    summary = read_json(root / "round-1/pairs/result.json")["summary"]
    assert summary["pairs"] == len(pairs) and summary["flipped"] == sum(flip for _, _, flip in pairs)
    assert {name for name in prints if name.endswith(".f32")} == {
        "round-1/learn/reference/answers-000000.f32",
        "round-2/learn/reference/answers-000000.f32",
        "single/reference/answers-000000.f32",
        "single/reference/mismatched-000000.f32",
    }
    learnt = read_metrics(root / "round-1/learn/metrics.jsonl")
    assert {"loss", "loss/nll", "accuracy", "rewards/margin", "logprobs/chosen", "kl/answers"} <= learnt[0].keys()
    assert "accuracy/validation" in learnt[2] and "accuracy/validation" not in learnt[0]
    assert read_metrics(root / "single/metrics.jsonl")[-1].keys() >= {"kl/mismatched", "rewards/chosen", "rewards/rejected"}
    assert read_metrics(root / "online/metrics.jsonl")[0].keys() >= {"gap/mean", "kl/k1", "pairs", "reward/mean"}
    for stage in ("round-2/learn", "single", "online"):
        assert (root / stage / "model/model.safetensors").is_file()


FAULTS = (
    "sampled:chunk:2=kill",  # in preferences, between two chunks of samples (evaluate has the first)
    "step:done:4=kill",  # in dpo, two steps after a checkpoint
    "step:done:16=kill",  # in online_dpo, two steps after a checkpoint: what was left of dpo, round 2, kto, and four
)


def test_killed_again_and_again(recipe: Path, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    for fault in FAULTS:
        killed = run(recipe, tmp_path, fault=fault)
        assert killed.returncode == -9, killed.stderr
    assert not (tmp_path / "toy/online/manifest.json").exists() and (tmp_path / "toy/single/manifest.json").exists()
    code, err = command("run", str(recipe), "--runs", str(tmp_path))
    assert code == 0, err
    assert fingerprint(tmp_path / "toy") == undisturbed[1]


GOOD = json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"})
SAME = json.dumps({"prompt": "q", "chosen": "a", "rejected": "a"})
HEAD = """
name: wrong
source: a test
tradeoff: none
model: ./model
stages:
  - {id: start, kind: evaluate, suites: {s: {source: ./tasks.jsonl, count: 2}}, graders: math, sampling: {max_tokens: 2}}
"""
DPO = "  - {id: learn, kind: dpo, data: ./pairs.jsonl, steps: 1, decontaminate: false}\n"

MISTAKES: list[tuple[str, str, str, str]] = [
    ("no such column", '{"question": "q"}', DPO, "pairs.jsonl:1: has columns question; expected"),
    ("half a line", GOOD + "\n" + GOOD[:20], DPO, "pairs.jsonl:2: is not complete JSON"),
    ("an answer that is no text", '{"prompt": "q", "chosen": 7, "rejected": "b"}', DPO, "pairs.jsonl:1: "),
    ("labels without kto", '{"prompt": "q", "completion": "a", "label": true}', DPO, "pairs.jsonl:1: holds single answers"),
    ("a file that is not there", GOOD, DPO.replace("pairs.jsonl", "pears.jsonl"), "pears.jsonl: there is no such file"),
    ("an unknown loss", GOOD, DPO.replace("steps: 1", "loss: dpoo"), "recipe.yaml:8: stages[1].loss is 'dpoo'"),
    ("another loss's setting", GOOD, DPO.replace("steps: 1", "gamma: 1.0"), "recipe.yaml:8: stages[1].gamma is 1.0"),
    ("a model as preferences", GOOD, DPO.replace("./pairs.jsonl", "base"), "recipe.yaml:8: stages[1].data[0].source is 'base'"),
    (
        "one sample to compare",
        GOOD,
        "  - {id: p, kind: preferences, tasks: ./tasks.jsonl, graders: math, sampling: {samples: 1}}\n",
        "recipe.yaml:8: stages[1].sampling.samples is 1",
    ),
    (
        "one answer a group",
        GOOD,
        "  - {id: o, kind: online_dpo, tasks: ./tasks.jsonl, graders: math, samples_per_prompt: 1}\n",
        "recipe.yaml:8: stages[1].samples_per_prompt is 1",
    ),
]


@pytest.fixture
def in_a_folder(tmp_path: Path, toy_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """A folder with a recipe of these stages and a file of these preferences."""

    def write(rows: str, stages: str) -> Path:
        (tmp_path / "model").symlink_to(toy_path)
        (tmp_path / "tasks.jsonl").write_text('{"prompt": "1+1?", "answer": "2"}\n{"prompt": "2+2?", "answer": "4"}\n')
        (tmp_path / "pairs.jsonl").write_text(rows + "\n")
        (tmp_path / "recipe.yaml").write_text(HEAD + stages)
        monkeypatch.chdir(tmp_path)
        return tmp_path / "recipe.yaml"

    return write


@pytest.mark.parametrize(("rows", "stages", "said"), [pytest.param(*rest, id=name) for name, *rest in MISTAKES])
def test_a_mistake_is_found_before_anything_runs(
    in_a_folder: Callable[[str, str], Path], rows: str, stages: str, said: str
) -> None:
    in_a_folder(rows, stages)
    code, err = command("check", "recipe.yaml")
    assert code == 2 and said in err and "Traceback" not in err


def test_nothing_to_learn_from_ends_the_run_with_the_reasons(in_a_folder: Callable[[str, str], Path]) -> None:
    in_a_folder(SAME, DPO)
    code, err = command("run", "recipe.yaml")
    assert code == 2 and "no preferences to learn from" in err and "chosen equals rejected" in err


def test_skips_are_recorded_and_the_rest_is_learnt(in_a_folder: Callable[[str, str], Path], tmp_path: Path) -> None:
    long = json.dumps({"prompt": "q", "chosen": "a" * 3000, "rejected": "b"})
    empty = json.dumps({"prompt": "q", "chosen": "a", "rejected": " "})
    in_a_folder("\n".join([GOOD, SAME, empty, long]), DPO)
    code, err = command("run", "recipe.yaml")
    assert code == 0, err
    summary = read_json(tmp_path / "runs/wrong/learn/result.json")["summary"]
    assert summary["preferences"] == summary["pairs"] == 1
    assert summary["dropped"] == {"chosen equals rejected": 1, "empty answer": 1, "over 1024 tokens": 1}


def test_preferences_that_hold_an_evaluation_are_refused(in_a_folder: Callable[[str, str], Path]) -> None:
    rows = json.dumps({"prompt": "2+2?", "chosen": "4", "rejected": "5"})
    in_a_folder(rows, DPO.replace(", decontaminate: false", ""))
    code, err = command("run", "recipe.yaml")
    assert code == 2 and "hold an evaluation task: ./pairs.jsonl:1" in err.replace(str(Path.cwd()), ".")


def test_kto_needs_both_kinds(in_a_folder: Callable[[str, str], Path]) -> None:
    rows = "\n".join(json.dumps({"prompt": f"q{i}", "completion": "a", "label": True}) for i in range(3))
    in_a_folder(rows, DPO.replace("steps: 1", "steps: 1, loss: kto"))
    code, err = command("run", "recipe.yaml")
    assert code == 2 and "no answer is undesirable" in err


def test_reference_log_probs_outlive_a_killed_process(toy: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks on the disk are read; what is missing is computed again, to the same bytes."""
    monkeypatch.setattr("posttrain.stages.dpo.CHUNK", 2)
    config = DpoConfig(data=[PreferenceSource(source="x")], lora=LoraConfig(rank=4))
    policy = Policy(toy, config, total_steps=1, seed=0)
    context = StageContext("learn", tmp_path, NO_RECIPE, {}, 0)
    asked: list[int] = []

    def element(index: int) -> Compared:
        asked.append(index)
        return Compared([Answer([1, 2, 3 + index], [0, 0, 1]), Answer([1, 2, 9], [0, 0, 1])], [])

    whole = kept(policy, "answers", element, 5, config, context)
    assert len(whole) == 10 and asked == [0, 1, 2, 3, 4]
    (tmp_path / "reference/answers-000002.f32").unlink()
    assert kept(policy, "answers", element, 5, config, context) == whole and asked[5:] == [2, 3]


def test_online_dpo_earns_more_than_it_did(recipe: Path, tmp_path: Path) -> None:
    """The share of lower-case letters in what the toy writes, from its own pairs alone."""
    config = OnlineDpoConfig(
        tasks=[TaskSource(source="tasks")],
        graders=[FunctionGrader(path=f"{recipe.parent}/grader.py:letters")],
        lora=None,
        learning_rate=3e-3,
        pairing="all",
        steps=20,
        prompts_per_step=8,
        max_tokens=6,
    )
    known = {"base": str(recipe.parent / "model"), "tasks": str(recipe.parent / "tasks.jsonl")}
    learn_online(config, StageContext("online", tmp_path, NO_RECIPE, known, 0))
    rewards = [row["reward/mean"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert fmean(rewards[-5:]) > 1.5 * fmean(rewards[:5])


def test_a_gold_that_tells_nothing_apart_breaks_the_promise(in_a_folder: Callable[[str, str], Path]) -> None:
    sampling = "sampling: {samples: 2, temperature: 1.0, max_tokens: 2}"
    in_a_folder(GOOD, f"  - {{id: p, kind: preferences, tasks: ./tasks.jsonl, graders: math, {sampling}}}\n")
    code, err = command("run", "recipe.yaml")
    assert code == 3 and "none of 2 tasks gave a pair" in err and "Traceback" not in err
