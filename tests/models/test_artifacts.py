"""What we save loads in transformers and peft as it is; what we load is what was meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from posttrain.core.config import LoraConfig
from posttrain.core.errors import UserError
from posttrain.models.load import Loaded, load, resolve
from posttrain.models.lora import adapters, add_lora, save_adapter, switched_off
from posttrain.models.packed_attention import Packed
from posttrain.models.save import save_model
from posttrain.models.view import InferenceView

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False, plan=Packed([6] * 6)).logits


@pytest.fixture
def trained(toy: Loaded) -> Loaded:
    add_lora(toy.model, LoraConfig(rank=4, alpha=8), seed=0)
    for layer in adapters(toy.model).values():
        torch.nn.init.normal_(layer.lora_B, std=0.1)
    return toy


def test_merged_model_and_adapter_load_elsewhere(trained: Loaded, toy_path: Path, tmp_path: Path) -> None:
    expected = logits(trained.model)
    save_model(trained.model, trained.tokenizer, tmp_path / "model")
    save_adapter(trained.model, tmp_path / "adapter", base=str(toy_path))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.allclose(merged(IDS).logits, expected, atol=1e-5)
    with_adapter = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(toy_path), tmp_path / "adapter")
    assert torch.allclose(with_adapter(IDS).logits, expected, atol=1e-5)
    assert "posttrain" not in json.dumps(json.loads((tmp_path / "model/config.json").read_text()))
    assert AutoTokenizer.from_pretrained(tmp_path / "model")("ab").input_ids == trained.tokenizer("ab").input_ids


def test_the_adapter_switched_off_is_the_parent(trained: Loaded, toy_path: Path) -> None:
    parent = logits(load(str(toy_path), dtype=torch.float32).model)
    assert not torch.allclose(logits(trained.model), parent)
    with switched_off(trained.model):
        assert torch.equal(logits(trained.model), parent)


def test_the_view_follows_the_policy_only_when_refreshed(trained: Loaded) -> None:
    view = InferenceView(trained.model)
    assert torch.allclose(logits(view.module), logits(trained.model), atol=1e-5)
    assert view.module.get_input_embeddings().weight is trained.model.get_input_embeddings().weight
    with torch.no_grad():
        for layer in adapters(trained.model).values():
            layer.lora_B.add_(0.05)
    assert not torch.allclose(logits(view.module), logits(trained.model), atol=1e-3)
    view.refresh()
    assert torch.allclose(logits(view.module), logits(trained.model), atol=1e-5)


def test_full_training_shares_every_weight(toy: Loaded) -> None:
    assert InferenceView(toy.model).module is toy.model


@pytest.mark.parametrize(
    ("reference", "says"),
    [("smolm2-135m-instruct", "Did you mean smollm2-135m-instruct"), ("./nowhere", "is not there"), ("x.gguf", "is not there")],
)
def test_a_model_that_is_not_there(reference: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        resolve(reference)


def test_pickled_weights_are_refused(toy_path: Path, tmp_path: Path) -> None:
    for file in toy_path.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match="safetensors"):
        load(str(tmp_path))


def test_the_real_model_speaks(smollm2: Loaded) -> None:
    """SmolLM2 from its GGUF: right shape, bf16, and it knows a common fact."""
    assert smollm2.model.dtype == torch.bfloat16
    assert sum(p.numel() for p in smollm2.model.parameters()) == 134_515_008
    ids = smollm2.tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        out = smollm2.model(input_ids=ids, use_cache=False, plan=Packed([ids.shape[1]] * ids.shape[1])).logits[0, -1]
    assert smollm2.tokenizer.decode(out.argmax()).strip() == "Paris"
