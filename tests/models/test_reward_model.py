"""Reward models saved, loaded by transformers as they are, and loaded back by ours: the same numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from posttrain import chat
from posttrain.core.config import LoraConfig
from posttrain.core.errors import UserError
from posttrain.core.types import Message
from posttrain.models.load import Loaded, load, smollm2
from posttrain.models.lora import adapters
from posttrain.models.reward_model import Ensemble, RewardModel, filler, load_reward_model, new_reward_model, save_reward_model
from posttrain.models.toy import make_toy
from tests.require import require

ROWS = [[5, 6, 7, 8], [5, 6, 9], list(range(30, 50))]


def made(toy: Loaded, members: int, ensemble: Ensemble, lora: LoraConfig | None = LoraConfig(rank=2)) -> RewardModel:  # noqa: B008 - frozen
    """A reward model whose adapters say something."""
    reward = new_reward_model(toy, lora, members=members, ensemble=ensemble, seed=1)
    generator = torch.Generator().manual_seed(0)
    for member in reward.members:
        for layer in adapters(member.model).values():
            layer.lora_B.data = torch.randn(layer.lora_B.shape, generator=generator) * 0.1
    return reward


def saved(toy: Loaded, toy_path: Path, folder: Path, members: int, ensemble: Ensemble) -> tuple[Path, RewardModel, torch.Tensor]:
    reward = made(toy, members, ensemble)
    reward.mean, reward.std = [0.5] * members, [2.0] * members
    save_reward_model(reward, folder / "rm", base=str(toy_path))
    return folder / "rm", reward, reward.score(ROWS, budget=100)


def by_transformers(path: Path) -> torch.Tensor:
    model = AutoModelForSequenceClassification.from_pretrained(path)
    with torch.no_grad():
        return torch.cat([model(torch.tensor([row])).logits[0] for row in ROWS])


@pytest.mark.parametrize(("members", "ensemble"), [(1, "adapters"), (3, "heads"), (3, "adapters")])
def test_saved_and_loaded_gives_the_same_scores(
    toy: Loaded, toy_path: Path, tmp_path: Path, members: int, ensemble: Ensemble
) -> None:
    path, _, scores = saved(toy, toy_path, tmp_path, members, ensemble)
    again = load_reward_model(str(path))
    assert scores.shape == (3, members) and again.size == members
    assert torch.allclose(again.score(ROWS, budget=3), scores, atol=1e-5)
    assert again.mean == [0.5] * members and again.std == [2.0] * members
    assert not any(p.requires_grad for member in again.members for p in member.parameters())


@pytest.mark.parametrize(("members", "ensemble"), [(1, "adapters"), (3, "heads"), (3, "adapters")])
def test_transformers_loads_it_unchanged(toy: Loaded, toy_path: Path, tmp_path: Path, members: int, ensemble: Ensemble) -> None:
    """One member: its score. Heads: their mean, exactly. Adapters: the first member's."""
    path, _, scores = saved(toy, toy_path, tmp_path, members, ensemble)
    expected = scores.mean(1) if ensemble == "heads" else scores[:, 0]
    assert torch.allclose(by_transformers(path), expected, atol=1e-5)
    assert json.loads((path / "config.json").read_text())["architectures"] == ["LlamaForSequenceClassification"]


def test_the_chat_template_of_transformers_ends_where_ours_is_scored(toy: Loaded, toy_path: Path, tmp_path: Path) -> None:
    """Also in a padded batch, where transformers looks for the last token that is not padding."""
    path, reward, _ = saved(toy, toy_path, tmp_path, 1, "adapters")
    talks = [[("user", "hi"), ("assistant", "hello")], [("user", "a longer question?"), ("assistant", "no")]]
    renderer = chat.renderer(reward.tokenizer)
    ours = reward.score([renderer.conversation([Message(*turn) for turn in talk])[0] for talk in talks], budget=1000)[:, 0]  # type: ignore[arg-type]
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path)
    written = [[{"role": role, "content": content} for role, content in talk] for talk in talks]
    inputs: Any = tokenizer.apply_chat_template(written, return_tensors="pt", return_dict=True, padding=True)
    with torch.no_grad():
        theirs = model(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).logits[:, 0]
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_what_is_padded_with_never_ends_a_conversation(toy: Loaded) -> None:
    """SmolLM2 pads with its end-of-turn token; transformers would look past it."""
    tokenizer = toy.tokenizer
    assert filler(tokenizer) == tokenizer.pad_token_id
    tokenizer.pad_token_id = tokenizer.eos_token_id
    assert filler(tokenizer) is None  # nothing is left but what a conversation is written with: one row at a time then
    tokenizer.add_special_tokens({"unk_token": "<|unknown|>"})
    assert filler(tokenizer) == tokenizer.unk_token_id


def test_smollm2_pads_with_something_else_than_its_end_of_turn() -> None:
    require("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(smollm2())
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    found = filler(tokenizer)
    assert found is not None and tokenizer.convert_ids_to_tokens(found) == "<|endoftext|>"


def test_members_of_an_ensemble_differ_and_share_their_body(toy: Loaded) -> None:
    reward = made(toy, 2, "adapters")
    scores = reward.score(ROWS, budget=100)
    assert not torch.allclose(scores[:, 0], scores[:, 1], atol=1e-2)
    first, second = (dict(member.model.named_parameters()) for member in reward.members)
    assert all((first[name] is second[name]) == ("lora_" not in name) for name in first)
    heads = made(load(str(toy.path), dtype=torch.float32), 2, "heads")
    assert len(heads.members) == 1 and heads.size == 2


def test_full_training_leaves_out_what_nothing_reads(toy: Loaded) -> None:
    reward = made(toy, 1, "adapters", lora=None)
    loss = reward.members[0](ROWS).sum()
    loss.backward()
    unread = [name for name, p in reward.members[0].named_parameters() if p.requires_grad and p.grad is None]
    assert not unread


def test_rows_of_one_prompt_score_as_they_do_alone(toy: Loaded) -> None:
    """The prompt is stored once; another answer's tokens, masked from this one, cannot matter."""
    reward, prompt = made(toy, 1, "adapters"), list(range(60, 80))
    rows = [[*prompt, 5, 6], [*prompt, 7], [*prompt, 5, 6, 8]]
    together = reward.score(rows, budget=1000)
    assert torch.allclose(together, torch.cat([reward.score([row], budget=1000) for row in rows]), atol=1e-5)
    assert torch.allclose(together, reward.score(rows, budget=1), atol=1e-5)


def test_what_is_no_reward_model_is_refused(toy: Loaded, toy_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a reward model: its architecture is LlamaForCausalLM"):
        load_reward_model(str(toy_path))
    path, reward, _ = saved(toy, toy_path, tmp_path, 1, "adapters")
    reward.members[0].head.weight.data.zero_()
    save_reward_model(reward, tmp_path / "dead", base=".")
    with pytest.raises(UserError, match="dead"):
        load_reward_model(str(tmp_path / "dead"))
    tensors = load_file(path / "model.safetensors")
    save_file({name: tensors[name] for name in tensors if name != "score.weight"}, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks score\.weight"):  # transformers would make one up
        load_reward_model(str(path))
    (path / "reward_model.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        load_reward_model(str(path))
    config = json.loads((path / "config.json").read_text())
    two = {**config, "id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
    (path / "reward_model.json").unlink()
    (path / "config.json").write_text(json.dumps(two))
    with pytest.raises(UserError, match="2 labels"):
        load_reward_model(str(path))


def test_an_ensemble_without_its_body_is_refused(toy: Loaded, tmp_path: Path) -> None:
    base = make_toy(tmp_path / "base", size="tiny")
    path, _, _ = saved(toy, base, tmp_path, 2, "adapters")
    base.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="which is not there"):
        load_reward_model(str(path))
