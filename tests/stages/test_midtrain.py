"""The stage midtrain through the command line: what it leaves, killed and run again, its wrong inputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posttrain.models.load import load
from posttrain.models.toy import make_toy
from posttrain.records.summary import read_json
from tests.cli.conftest import handlers, posttrain  # noqa: F401 - fixtures
from tests.stages.helpers import fingerprint, run

RECIPE = """
name: text
source: a test
tradeoff: none
model: ./model
seed: 7
stages:
  - {id: start, kind: evaluate, suites: {n: &n {source: "builtin:needle", count: 4, options: {words: 25}}}, graders: lookup, sampling: {max_tokens: 4}}
  - id: text
    kind: midtrain
    model: base
    data:
      - {source: ./corpus, weight: 2}
      - {source: "builtin:generated-text", longest: 120}
      - {source: ./none, optional: true}
    lora: null
    learning_rate: 1e-2
    sequence_length: 128
    batch_size: 2
    steps: 6
    validation: 6
    checkpoint_every: 2
  - id: long
    kind: midtrain
    model: text
    data: ./long
    context: {length: 2048}
    sequence_length: 1500
    lora: {rank: 4}
    batch_size: 1
    steps: 3
    validation: 2
    checkpoint_every: 2
  - {id: end, kind: evaluate, model: long, suites: {n: *n, far: {source: "builtin:needle", count: 2, options: {words: 200}}}, graders: lookup, sampling: {max_tokens: 4}, compare_to: start}
"""  # noqa: E501 - a stage a line


def write_recipe(folder: Path) -> Path:
    make_toy(folder / "model", size="tiny")
    for name in ("corpus", "long", "none"):
        (folder / name).mkdir()
    for number in range(40):
        (folder / "corpus" / f"{number:02d}.txt").write_text(f"{number} sheep. " * (8 + number % 5))
    for number in range(12):
        (folder / "long" / f"{number:02d}.md").write_text("".join(f"line {line} of {number}\n" for line in range(140)))
    (folder / "rows.jsonl").write_text('{"prompt": "hi"}\n')
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    runs = tmp_path_factory.mktemp("undisturbed")
    done = run(recipe, runs)
    assert done.returncode == 0, done.stderr
    return runs / "text", outcome(runs / "text")


def outcome(root: Path) -> dict[str, str]:
    """Weights and metrics, and what the stages say of the text and the loss."""
    return {**fingerprint(root), **{stage: json.dumps(summary(root, stage), sort_keys=True) for stage in ("text", "long")}}


def summary(root: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(root / stage / "result.json")["summary"]
    return found


def test_it_learns_the_text_and_says_how_sure_it_is(undisturbed: tuple[Path, dict[str, str]]) -> None:
    found = summary(undisturbed[0], "text")
    validation = found["validation"]
    assert validation["high"] < -0.5 and validation["after"] < validation["before"] - 0.5
    assert [Path(source).name for source in validation["sources"]] == ["corpus", "builtin:generated-text"]
    assert validation["documents"] == sum(source["held_out"] for source in found["sources"])
    shares = [source["trained_tokens"] for source in found["sources"]]
    assert abs(shares[0] / sum(shares) - 2 / 3) < 0.1  # of 1,500 tokens, in whole documents
    assert found["steps"] == 6 and found["sequences"] == 12 and len(found["absent"]) == 1


def test_the_longer_context_is_in_the_model_that_is_saved(undisturbed: tuple[Path, dict[str, str]]) -> None:
    config = read_json(undisturbed[0] / "long/model/config.json")
    assert config["max_position_embeddings"] == 2048 == summary(undisturbed[0], "long")["context"]
    assert config["rope_parameters"]["rope_type"] == "yarn" and config["rope_parameters"]["factor"] == 2.0
    assert load(str(undisturbed[0] / "long/model")).model.model.rotary_emb.attention_scaling > 1
    assert not (undisturbed[0] / "long/adapter").exists()  # on its base, which has the old positions, it would be wrong
    evaluated = read_json(undisturbed[0] / "end/result.json")["evaluations"]
    assert evaluated["far"]["tasks"] == 2 and evaluated["far"]["failed"] == 0  # 1,200 tokens: beyond the toy's own 1,024


def test_killed_twice_and_run_again(recipe: Path, undisturbed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Killed a step after a checkpoint of the first stage; then, resumed there with four steps to go, after the last step of
    the second, before its loss is measured again."""
    for fault in ("step:done:3=kill", "step:done:7=kill"):
        killed = run(recipe, tmp_path, fault=fault)
        assert killed.returncode == -9, killed.stderr
    assert (tmp_path / "text/text/manifest.json").exists() and not (tmp_path / "text/long/manifest.json").exists()
    again = run(recipe, tmp_path)
    assert again.returncode == 0, again.stderr
    assert outcome(tmp_path / "text") == undisturbed[1]


MISTAKES = [
    ("steps: 6", "stepz: 6", "stages[1].stepz is not a setting of kind 'midtrain'. Did you mean steps?"),
    ("sequence_length: 128", "sequence_length: 4", "sequence_length is 4; expected at least 8"),
    ("length: 2048", "length: 1000", "sequence_length is 1500; expected at most context.length (1000)"),
    (
        "context: {length: 2048}\n    sequence_length: 1500",
        "context: {length: 512}\n    sequence_length: 256",
        "can read 1024 tokens",
    ),
    ("{length: 2048}", "{length: 4096, factor: 2}", "context.length is 4096, beyond what a factor of 2 reaches"),
    ("{length: 2048}", "{length: 65536}", "64 times the 1024 tokens the model was made for"),
    ("{length: 2048}", "{length: 2048, type: yarm}", "context.type is 'yarm'; expected one of yarn"),
    ("    context: {length: 2048}\n", "", "sequence_length is 1500; the model can read 1024 tokens."),
    ("data: ./long", "data: ./lang", "there is no such file or folder"),
    ("data: ./long", 'data: "builtin:generated"', "Did you mean generated-text?"),
    ("data: ./long", "data: text", "a stage of kind 'midtrain', which writes no training rows"),
    ("data: ./long", "data: {source: ./long, languages: [fi]}", "holds no text to train on (10 of another language)"),
    ("{source: ./corpus, weight: 2}", "{source: ./corpus, weight: 0}", "weight is 0"),
    ("{source: ./corpus, weight: 2}", "{source: ./rows.jsonl}", "rows.jsonl:1: has no column 'text'"),
]


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES)
def test_wrong_input(
    posttrain: Callable[..., Any],  # noqa: F811
    recipe: Path,
    tmp_path: Path,
    old: str,
    new: str,
    said: str,
) -> None:
    shutil.copytree(recipe.parent, tmp_path, dirs_exist_ok=True)
    assert RECIPE.count(old) == 1
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace(old, new))
    for command in ("check", "run"):
        found = posttrain(command, "recipe.yaml")
        assert found.code == 2, found
        assert said in found.err and ":" in found.err.split()[1] and "Traceback" not in found.err  # it begins with a place
        assert not (tmp_path / "runs").exists()
