"""average through the command line: killed anywhere and run again it ends in the same bytes; what cannot be averaged is told."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from posttrain.models.toy import make_toy
from tests.cli.conftest import Command, handlers, posttrain  # noqa: F401 - fixtures
from tests.stages.helpers import run, turn

RECIPE = """
name: soup
source: a test
tradeoff: none
model: ./model
seed: 3
stages:
  - {id: start, kind: evaluate, model: base, suites: {s: {source: ./tasks.jsonl}}, graders: [lookup], sampling: {max_tokens: 4}}
  - &train {id: one, kind: sft, model: base, data: ./one.jsonl, steps: 3, batch_size: 4, learning_rate: 1e-2, lora: {rank: 4}}
  - {<<: *train, id: two, data: ./two.jsonl, lora: {rank: 2, alpha: 8}}
  - {id: soup, kind: average, models: [base, one, two], weights: [1, 1, 2]}
  - {id: merged, kind: average, model: base, adapters: [one, two], weights: [0.25, 0.5], normalise: false}
  - {id: end, kind: evaluate, model: soup, suites: {s: {source: ./tasks.jsonl}}, graders: [lookup], sampling: {max_tokens: 4}, compare_to: start}
"""  # noqa: E501 - a stage a line


def write_recipe(folder: Path) -> Path:
    make_toy(folder / "model", size="tiny")
    tasks = [{"id": f"t{i}", "prompt": f"say {i}", "answer": "x"} for i in range(4)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tasks))
    for name in ("one", "two"):
        rows = [{"messages": [turn("user", f"{name} {i}"), turn("assistant", f"{i} {name}")]} for i in range(12)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


def weights(root: Path) -> dict[str, str]:
    files = [file for file in sorted(root.rglob("*.safetensors")) if "checkpoints" not in file.parts]
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("undisturbed")
    done = run(recipe, runs)
    assert done.returncode == 0, done.stderr
    return runs / "soup"


def test_the_soup_is_the_weighted_mean_and_the_merge_the_same_by_its_adapters(recipe: Path, undisturbed: Path) -> None:
    base = load_file(recipe.parent / "model" / "model.safetensors")
    one, two, soup, merged = (
        load_file(undisturbed / stage / "model" / "model.safetensors") for stage in ("one", "two", "soup", "merged")
    )
    for name, weight in base.items():
        assert torch.allclose(soup[name], (weight + one[name] + 2 * two[name]) / 4, atol=1e-6)
        # 0.25 of one update and 0.5 of the other: the same as the soup, whose base has the rest of the weight
        assert torch.allclose(soup[name], merged[name], atol=1e-6)
    assert any(not torch.allclose(soup[name], base[name], atol=1e-4) for name in base)
    result = json.loads((undisturbed / "soup" / "result.json").read_text())
    assert result["summary"]["shares"] == {"base": 0.25, "one": 0.25, "two": 0.5}
    assert set(result["artefacts"]) == {"model"} and all(0 < each < 1 for each in result["summary"]["distance"].values())
    result = json.loads((undisturbed / "merged" / "result.json").read_text())
    assert result["summary"]["rank"] == 6 and set(result["artefacts"]) == {"model", "adapter"}
    lineage = json.loads((undisturbed / "lineage.json").read_text())["stages"]
    assert set(next(s for s in lineage if s["id"] == "soup")["parents"]) == {"base", "one", "two"}


@pytest.mark.parametrize(
    "fault",
    [
        "average:tensor:5=kill",  # in the middle of the soup
        "save:after-rename:2=kill",  # after the merge's adapter, before its model
    ],
)
def test_killed_and_run_again(recipe: Path, undisturbed: Path, tmp_path: Path, fault: str) -> None:
    for name in ("start", "one", "two"):  # what is finished is skipped, so this test is about the average alone
        (tmp_path / "soup").mkdir(exist_ok=True)
        shutil.copytree(undisturbed / name, tmp_path / "soup" / name)
    shutil.copyfile(undisturbed / "recipe.yaml", tmp_path / "soup" / "recipe.yaml")
    killed = run(recipe, tmp_path, fault=fault)
    assert killed.returncode == -9, killed.stderr
    again = run(recipe, tmp_path)
    assert again.returncode == 0 and "one (sft): finished before, skipped" in again.stderr, again.stderr
    assert weights(tmp_path / "soup") == weights(undisturbed)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("weights: [1, 1, 2]", "weights: [1, 1]", "weights has 2 numbers for 3 parts"),
        ("weights: [1, 1, 2]", "weights: [1, 1, -2]", "stages[3].weights is -2"),
        ("models: [base, one, two]", "models: [base, start, two]", "is 'start', a stage of kind 'evaluate', which writes no model"),
        ("adapters: [one, two]", "adapters: [one, start]", "which writes no adapter"),
        ("adapters: [one, two]", "adapters: [one, ./gone]", "gone has no adapter_config.json, so it is no adapter"),
        ("adapters: [one, two]", "adapters: [one, soup]", "which writes no adapter"),
        ("models: [base, one, two]", "models: [base, one, ./gone]", "gone is not there"),
        ("model: base, adapters", "adapters", "adapters need model"),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_wrong_input(recipe: Path, tmp_path: Path, old: str, new: str, said: str, command: str, posttrain: Command) -> None:  # noqa: F811
    for file in recipe.parent.glob("*.jsonl"):
        shutil.copyfile(file, tmp_path / file.name)
    shutil.copytree(recipe.parent / "model", tmp_path / "model", dirs_exist_ok=True)
    text = recipe.read_text()
    assert old in text
    (tmp_path / "recipe.yaml").write_text(text.replace(old, new))
    found = posttrain(command, "recipe.yaml")
    assert found.code == 2 and said in found.err and "recipe.yaml:1" in found.err, found.err
    assert not (tmp_path / "runs").exists()


def test_models_of_another_shape_end_the_run_with_both_names(recipe: Path, tmp_path: Path, posttrain: Command) -> None:  # noqa: F811
    for name, size in (("model", "tiny"), ("other", "1m")):
        make_toy(tmp_path / name, size=size)
    shutil.copyfile(recipe.parent / "tasks.jsonl", tmp_path / "tasks.jsonl")
    stages = [line for line in RECIPE.splitlines() if not any(f"id: {name}" in line for name in ("one", "two", "merged", "end"))]
    text = "\n".join(stages).replace("[base, one, two], weights: [1, 1, 2]", "[base, ./other]")
    (tmp_path / "recipe.yaml").write_text(text)
    found = posttrain("run", "recipe.yaml")
    assert found.code == 2 and "cannot be averaged" in found.err and "other" in found.err and "Traceback" not in found.err
    assert not (tmp_path / "runs" / "soup" / "soup" / "model").exists()
