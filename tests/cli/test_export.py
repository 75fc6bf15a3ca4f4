"""export as a person uses it: what it writes loads elsewhere unchanged, says where it comes from, and overwrites nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from posttrain.models.toy import make_toy
from posttrain.records.files import verify

RECIPE = """\
name: small
source: "a test | of <b>cards</b>"
differs: ["line one\\nline two"]
tradeoff: It costs nothing and is worth it.
model: ./model
stages:
  - {id: start, kind: evaluate, suites: {test: {source: ./tasks.jsonl}}, graders: lookup, sampling: {max_tokens: 4}}
  - {id: sft, kind: sft, data: ./train.jsonl, steps: 3, batch_size: 4, learning_rate: 1e-2, lora: {rank: 4}}
  - id: all
    kind: sft
    model: sft
    data: [./train.jsonl, {source: "builtin:strings", count: 8}]
    steps: 2
    batch_size: 4
    lora: null
  - {id: end, kind: evaluate, model: all, suites: {test: {source: ./tasks.jsonl}}, graders: lookup, sampling: {max_tokens: 4}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    made = tmp_path_factory.mktemp("export")
    make_toy(made / "model", size="tiny")
    (made / "model" / "README.md").write_text("---\nlicense: mit\n---\n# toy\n")
    rows = [
        {"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": f"{n} it is"}]} for n in range(12)
    ]
    (made / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    (made / "tasks.jsonl").write_text("".join(json.dumps({"prompt": f"tell {n}", "answer": str(n)}) + "\n" for n in range(5)))
    (made / "recipe.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "posttrain.cli", "run", "recipe.yaml"]
    done = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def export(posttrain: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    monkeypatch.chdir(folder)
    return lambda *arguments: posttrain("export", *map(str, arguments))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def test_a_stage_loads_in_transformers_unchanged(export: Callable, folder: Path, tmp_path: Path) -> None:
    done = export("small/sft", tmp_path / "out")
    assert done.code == 0, done.err
    assert "model of" in done.out and not verify(tmp_path / "out")
    left, right = weights(folder / "runs/small/sft/model"), weights(tmp_path / "out")
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    tokens = tokenizer("say 3", return_tensors="pt").input_ids
    same = AutoModelForCausalLM.from_pretrained(folder / "runs/small/sft/model")
    assert torch.equal(model(tokens).logits, same(tokens).logits)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)])
def test_precision(export: Callable, folder: Path, tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    assert export("small/sft", tmp_path / "out", "--dtype", name).code == 0
    left, right = weights(folder / "runs/small/sft/model"), weights(tmp_path / "out")
    assert all(right[key].dtype == dtype and torch.equal(left[key].to(dtype), right[key]) for key in left)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.dtype == dtype and f"weights in {name}" in (tmp_path / "out" / "README.md").read_text()


def test_merging_an_adapter_gives_what_the_stage_saved(export: Callable, folder: Path, tmp_path: Path) -> None:
    """The base with the stage's adapter folded in is the stage's model, bit for bit."""
    assert export("./model", tmp_path / "out", "--adapter", "runs/small/sft/adapter").code == 0
    left, right = weights(folder / "runs/small/sft/model"), weights(tmp_path / "out")
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert "with the adapter `adapter` folded in" in (tmp_path / "out" / "README.md").read_text()


def test_an_adapter_alone_loads_in_peft(export: Callable, folder: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    assert export("small/sft", tmp_path / "out", "--no-merge").code == 0
    assert not (tmp_path / "out" / "config.json").exists() and (tmp_path / "out" / "tokenizer.json").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'library_name: "peft"' in card and "An adapter for" in card
    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")  # it says where its base lies
    tokens = torch.tensor([[10, 11, 12]])
    whole = AutoModelForCausalLM.from_pretrained(folder / "runs/small/sft/model")
    assert torch.allclose(model(tokens).logits, whole(tokens).logits, atol=1e-5)


def test_the_card_says_what_the_records_say(export: Callable, folder: Path, tmp_path: Path) -> None:
    assert export("small", tmp_path / "out").code == 0, "the last stage that wrote a model"
    card = (tmp_path / "out" / "README.md").read_text()
    head, rest = card.removeprefix("---\n").split("---\n", 1)
    settings = {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in head.splitlines()}
    assert settings["license"] == "mit" and settings["tags"] == ["posttrain", "sft"]
    assert settings["base_model"] == "model" and settings["library_name"] == "transformers"
    measured = json.loads((folder / "runs/small/end/result.json").read_text())["evaluations"]["test"]["pass@1"]
    assert f"{100 * measured['value']:.1f} % ({100 * measured['low']:.1f}–{100 * measured['high']:.1f}), n = 5" in rest
    counted = json.loads((folder / "runs/small/sft/result.json").read_text())["summary"]
    assert (
        f"{counted['rows']} rows, {counted['trained_tokens']} of {counted['tokens']} tokens learnt; left out: 1 exact duplicate"
        in rest
    )
    assert "| sft | sft | base |" in rest and "| all | sft | sft |" in rest and "LoRA of rank 4" in rest
    assert "The demonstrations of `all` were written by a program" in rest and "under mit" in rest
    assert str(folder) not in card, "no path of this machine"
    assert "It costs nothing and is worth it." in rest and "What was not measured is not known" in rest
    # recipe text starts no HTML, breaks no table and no line
    assert "a test | of &lt;b>cards&lt;/b>" in rest and "<b>" not in rest and "- Differs from it: line one line two\n" in rest


def test_a_stage_that_was_not_evaluated_says_so(export: Callable, tmp_path: Path) -> None:
    assert export("small/sft", tmp_path / "out").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "This model was not evaluated in its run." in card and "It was not evaluated after this stage." in card
    assert "| all |" not in card, "only the stages that lead to it"


def test_a_model_without_a_run(export: Callable, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "model", tmp_path / "plain", ignore=shutil.ignore_patterns("README.md"))
    done = export(tmp_path / "plain", tmp_path / "out", "--json")
    told = json.loads(done.out)
    assert done.code == 0 and told["licence"] == "" and told["bytes"] == sum(t.nbytes for t in weights(tmp_path / "out").values())
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'license: "unknown"' in card and "It comes from no run" in card and "Look it up" in card


def test_nothing_is_overwritten_and_nothing_half_is_left(export: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    done = export("small/sft", tmp_path / "out")
    assert done.code == 2 and "is there already" in done.err and [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]
    monkeypatch.setenv("POSTTRAIN_FAULT", "save:before-manifest=enospc")
    done = export("small/sft", tmp_path / "new" / "out")
    assert done.code == 4 and "disk is full" in done.err and list((tmp_path / "new").iterdir()) == []


def test_what_fp16_cannot_hold_is_refused(export: Callable, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "model", tmp_path / "large")
    tensors = weights(tmp_path / "large")
    tensors["model.norm.weight"][0] = 1e6
    save_file(tensors, tmp_path / "large" / "model.safetensors", metadata={"format": "pt"})
    done = export(tmp_path / "large", tmp_path / "out", "--dtype", "fp16")
    assert done.code == 2 and "model.norm.weight holds 1e+06" in done.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["small/gone"], "'small/gone' is neither"),
        (["tooy"], "Did you mean toy?"),
        (["run:small/gone"], "that stage is not finished"),
        (["small/start"], "wrote no model; it wrote evaluation"),
        (["small/all", "--no-merge"], "--no-merge writes an adapter alone, and there is none here"),
        (["./model", "--adapter", "gone"], "gone is no adapter that can be read"),
        (["small/all", "--adapter", "runs/small/sft/adapter"], "was trained on"),
        (["small/sft", "--dtype", "int8"], "int8"),
    ],
)
def test_wrong_arguments(export: Callable, folder: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    done = export(arguments[0], tmp_path / "out", *arguments[1:])
    assert done.code == 2 and said in done.err and "Traceback" not in done.err, done.err
    assert not (tmp_path / "out").exists()
