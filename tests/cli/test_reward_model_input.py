"""Mistakes people make with reward models: exit code 2, the place, one fix, no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from posttrain.models.toy import make_toy
from tests.stages.reward_model_recipe import preference, write_recipe

ROW = preference(0)
SAME = {**ROW, "answers": [ROW["answers"][0]] * 3}
EMPTY = {**ROW, "answers": [[{"role": "assistant", "content": ""}]] * 3}


def data(*rows: object) -> Callable[[Path], None]:
    return lambda folder: (folder / "preferences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))  # type: ignore[return-value]


def recipe(old: str, new: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        text = (folder / "recipe.yaml").read_text()
        assert old in text
        (folder / "recipe.yaml").write_text(text.replace(old, new, 1))

    return write


GRADER = "model: reward, combine: mean_minus_std"
MISTAKES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "no adapters to differ in": (
        lambda folder: (recipe("lora: {rank: 4}", "lora: null")(folder), recipe("members: 1", "members: 2")(folder))[1],
        ["recipe.yaml:", "ensemble is 'adapters', which needs lora"],
    ),
    "half the labels wrong": (
        recipe("validate_every: 3", "validate_every: 3\n    label_smoothing: 0.5"),
        ["recipe.yaml:", "label_smoothing is 0.5; expected less than 0.5"],
    ),
    "a gate": (recipe(GRADER, "model: reward, gate: true"), ["recipe.yaml:", "gate is true, but a reward model gives a score"]),
    "another rule": (recipe("mean_minus_std", "median"), ["recipe.yaml:", "combine is 'median'; expected one of mean, min"]),
    "a stage that makes none": (
        recipe(GRADER, "model: start"),
        ["recipe.yaml:", "start", "writes no reward model", "reward_model"],
    ),
    "a language model": (recipe(GRADER, "model: ./model"), ["recipe.yaml:", "not a reward model", "LlamaForCausalLM"]),
    "nothing there": (recipe(GRADER, "model: ./rm"), ["recipe.yaml:", "rm is not there"]),
    "no file": (recipe("data: ./preferences.jsonl", "data: ./gone.jsonl"), ["gone.jsonl"]),
    "chosen equals rejected": (data(SAME), ["no preferences to learn from", "chosen equals rejected"]),
    "empty answers": (data(EMPTY), ["no preferences to learn from", "empty answer"]),
    "all too long": (recipe("validate_every: 3", "validate_every: 3\n    max_length: 8"), ["no preferences", "over 8 tokens"]),
    "an evaluation task": (
        data({**ROW, "prompt": [{"role": "user", "content": "say 3"}]}),
        ["preferences hold an evaluation task", "preferences.jsonl:1"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained(posttrain: Callable, tmp_path: Path, name: str) -> None:  # type: ignore[type-arg]
    change, expected = MISTAKES[name]
    write_recipe(tmp_path)
    change(tmp_path)
    found = posttrain("run", "recipe.yaml")
    assert found.code == 2, found.err
    assert "Traceback" not in found.err
    for text in expected:
        assert text in found.err.replace("\n", " "), found.err


def test_a_reward_model_of_another_tokenizer(posttrain: Callable, tmp_path: Path) -> None:  # type: ignore[type-arg]
    """Found when the stage that would ask it begins, before a token is sampled."""
    import torch

    from posttrain.core.config import LoraConfig
    from posttrain.models.load import load
    from posttrain.models.reward_model import new_reward_model, save_reward_model

    write_recipe(tmp_path)
    other = load(str(make_toy(tmp_path / "other", size="tiny")), dtype=torch.float32)
    other.tokenizer.add_tokens(["another"])
    other.model.resize_token_embeddings(len(other.tokenizer))
    reward = new_reward_model(other, LoraConfig(rank=2), members=1, ensemble="adapters", seed=0)
    save_reward_model(reward, tmp_path / "rm", base=".")
    recipe("lookup", "{kind: reward_model, model: ./rm}")(tmp_path)
    found = posttrain("run", "recipe.yaml")
    assert found.code == 2 and "another tokenizer than the model it would judge: token" in found.err
    assert not list((tmp_path / "runs").rglob("*.parquet"))
