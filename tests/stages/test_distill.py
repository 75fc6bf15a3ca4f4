"""teach and distill with teachers on this machine: killed through the real command line and run again, and other tokenizers."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from posttrain.core.config import DistillConfig, TaskSource
from posttrain.core.errors import UserError
from posttrain.core.stage import StageContext
from posttrain.models.load import load
from posttrain.models.save import save_model
from posttrain.pipeline.parse import load_recipe
from posttrain.pipeline.run import run as run_here
from posttrain.records.metrics import read_metrics
from posttrain.records.rollouts import read_rollouts
from posttrain.stages import distill
from tests.stages.helpers import run, turn, write_recipe

RECIPE = """
name: toy
source: a test
tradeoff: none
model: ./model
seed: 7
stages:
  - {id: start, kind: evaluate, model: base, suites: {s: {source: ./tasks.jsonl, count: 2}}, graders: &g [{kind: function, path: "./grader.py:letters"}], sampling: {max_tokens: 2}}
  - id: taught
    kind: teach
    teacher: ./teacher
    tasks: ./tasks.jsonl
    graders: *g
    keep: {passed: false, finished: false, per_task: 2}
    sampling: {samples: 3, temperature: 1.0, max_tokens: 5}
  - id: student
    kind: distill
    model: base
    teacher: ./teacher
    tasks: ./tasks.jsonl
    data: taught
    decontaminate: false
    on_policy: 0.6
    divergence: jsd
    steps: 7
    prompts_per_step: 3
    samples_per_prompt: 2
    batch_size: 3
    max_tokens: 5
    checkpoint_every: 2
    learning_rate: 1e-2
    lora: {rank: 4}
"""  # noqa: E501 - a stage a line


def make_teacher(student: Path, path: Path) -> None:
    """The same tokens, other opinions about them."""
    loaded = load(str(student))
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in loaded.model.named_parameters():
            if "proj" in name:
                p.add_(0.15 * torch.randn(p.shape, generator=source))
    save_model(loaded.model, loaded.tokenizer, path)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    recipe = write_recipe(tmp_path)
    make_teacher(tmp_path / "model", tmp_path / "teacher")
    recipe.write_text(RECIPE)
    return recipe


def come_to(root: Path) -> dict[str, str]:
    """The bytes of weights and data, the metrics without times."""
    files = [*root.glob("student/model/*.safetensors"), *root.glob("student/adapter/*.safetensors"), root / "taught/data.jsonl"]
    found = {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_metrics(root / "student/metrics.jsonl")]
    return {**found, "metrics": json.dumps(rows, sort_keys=True)}


def test_killed_in_either_stage_and_run_again(recipe: Path, tmp_path: Path) -> None:
    for fault in ("sampled:chunk:2=kill", "step:done:6=kill"):  # after the teacher's answers; after four steps and a checkpoint
        killed = run(recipe, tmp_path / "runs", fault=fault)
        assert killed.returncode == -9, killed.stderr
    run_here(load_recipe(str(recipe)), tmp_path / "runs")
    run_here(load_recipe(str(recipe)), tmp_path / "other")
    root = tmp_path / "runs/toy"
    assert come_to(root) == come_to(tmp_path / "other/toy")

    rows = [json.loads(line) for line in (root / "taught/data.jsonl").read_text().splitlines()]
    assert len(rows) == 16 and rows[0]["messages"][0] == turn("user", "say 0")
    assert rows[0]["provenance"]["teacher"].endswith("teacher") and {row["provenance"]["of"] for row in rows} == {3}
    by_task = [row["provenance"]["score"] for row in rows if row["provenance"]["task"] == "t5"]
    assert by_task == sorted(by_task, reverse=True)  # the best first

    metrics = read_metrics(root / "student/metrics.jsonl")
    own = [row["on_policy"] for row in metrics]
    assert len(metrics) == 7 and 0 < sum(own) < 7
    assert metrics[-1]["kl/teacher"] < metrics[0]["kl/teacher"]
    assert all(row["gap/mean"] < 1e-4 for row in metrics if row["on_policy"])  # the sampler is the student, in fp32
    kept = list(read_rollouts(root / "student/rollouts"))
    assert len(kept) == 6 * sum(own) and {record.score for record in kept} == {None}
    load(str(root / "student/model"))


def context(folder: Path, **references: str) -> StageContext:
    return StageContext("student", folder / "stage", load_recipe(str(folder / "recipe.yaml")), references, seed=0)


def settings(**changes: object) -> DistillConfig:
    return DistillConfig(**{"teacher": "t", "tasks": [TaskSource(source="x", count=2)], "steps": 1, **changes})  # type: ignore[arg-type]


def refused(recipe: Path, config: DistillConfig) -> str:
    folder = recipe.parent
    references = {"base": str(folder / "model"), "t": str(folder / "teacher"), "x": str(folder / "tasks.jsonl")}
    with pytest.raises(UserError) as found:
        distill.run(config, context(folder, **references))
    assert found.value.exit_code == 2 and found.value.fix and not (folder / "stage").exists()
    return str(found.value)


def test_a_teacher_with_other_tokens_is_refused(recipe: Path) -> None:
    """Two tokens that changed places: the same size and the same names, but every number would be taken for another."""
    file = recipe.parent / "teacher/tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(content))
    said = refused(recipe, settings())
    assert "teacher 't' has another tokenizer than 'base'" in said and "token 'a' is" in said


def test_a_teacher_that_cuts_text_otherwise_is_refused(recipe: Path) -> None:
    """The same vocabulary, other merges: what a teacher would never have been shown."""
    file = recipe.parent / "teacher/tokenizer.json"
    content = json.loads(file.read_text())
    content["pre_tokenizer"]["add_prefix_space"] = True
    file.write_text(json.dumps(content))
    assert "cut into other tokens" in refused(recipe, settings())


def test_more_likeliest_tokens_than_there_are_is_refused(recipe: Path) -> None:
    assert "top_k is 5000" in refused(recipe, settings(over="top_k", top_k=5000))


def test_a_teacher_whose_output_is_padded_further_is_taken(recipe: Path, tmp_path: Path) -> None:
    """As in families whose larger members round their vocabulary up."""
    loaded = load(str(tmp_path / "teacher"))
    loaded.model.resize_token_embeddings(264, mean_resizing=False)
    shutil.rmtree(tmp_path / "teacher")
    save_model(loaded.model, loaded.tokenizer, tmp_path / "teacher")
    references = {"base": str(tmp_path / "model"), "t": str(tmp_path / "teacher"), "x": str(tmp_path / "tasks.jsonl")}
    config = settings(max_tokens=3, prompts_per_step=2, samples_per_prompt=2)
    assert distill.run(config, context(tmp_path, **references)).summary["steps"] == 1
