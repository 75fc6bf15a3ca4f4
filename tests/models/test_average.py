"""Averages and merges of weights, by hand and against the model that computes with its adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from posttrain.core.config import AverageConfig, LoraConfig
from posttrain.core.errors import UserError
from posttrain.models import lora
from posttrain.models.adapter_files import merged, read_adapter, require_base, stacked
from posttrain.models.average import average_models, merge_adapters
from posttrain.models.load import Loaded, load
from posttrain.models.save import save_model
from posttrain.models.tensors import INDEX, Weights, copy_beside, write_weights


def a_model(folder: Path, **tensors: torch.Tensor) -> Path:
    """A directory that holds these tensors and what must agree between models."""
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "x", "hidden_size": 2}')
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    return folder


def test_an_average_by_hand(tmp_path: Path) -> None:
    one = a_model(tmp_path / "one", w=torch.tensor([1.0, 2.0]), steps=torch.tensor([7]))
    two = a_model(tmp_path / "two", w=torch.tensor([3.0, -2.0]), steps=torch.tensor([7]))
    (tmp_path / "out").mkdir()
    distance = average_models([one, two], [0.25, 0.75], tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found["w"].tolist() == [2.5, -1.0] and found["steps"].tolist() == [7]
    length = (2.5**2 + 1) ** 0.5  # |one - mean| = |(-1.5, 3)|, |two - mean| = |(0.5, -1)|
    assert distance == pytest.approx([(1.5**2 + 9) ** 0.5 / length, (0.5**2 + 1) ** 0.5 / length])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["hidden_size"] == 2


def test_bf16_weights_are_summed_in_fp32_and_rounded_once(tmp_path: Path) -> None:
    parts = [torch.full((1,), value).to(torch.bfloat16) for value in (1.0, 1.0078125, 1.0078125)]  # neighbours in bf16
    models = [a_model(tmp_path / str(n), w=part) for n, part in enumerate(parts)]
    (tmp_path / "out").mkdir()
    average_models(models, [0.25, 0.25, 0.5], tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")["w"]
    assert found.dtype == torch.bfloat16 and found.item() == 1.0078125  # 1.005859 rounds up; three bf16 products would lose it


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: save_file({"w": torch.zeros(3)}, m / "model.safetensors"), r"w has shape \(2,\) in one and \(3,\)"),
        (lambda m: save_file({"v": torch.zeros(2)}, m / "model.safetensors"), "v has shape none in one"),
        (lambda m: (m / "config.json").write_text('{"model_type": "y", "hidden_size": 2}'), "model_type is 'x' in one and 'y'"),
        (lambda m: (m / "tokenizer.json").write_text('{"model": {"vocab": {"b": 0}}}'), "their tokenizers differ"),
        (lambda m: (m / "chat_template.jinja").write_text("{{ x }}"), "their chat templates differ"),
        (lambda m: (m / "model.safetensors").write_bytes(b"no"), "cannot be read"),
    ],
)
def test_what_cannot_be_averaged_is_refused(tmp_path: Path, spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    one, two = (a_model(tmp_path / name, w=torch.tensor([1.0, 2.0])) for name in ("one", "two"))
    spoil(two)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=said):
        average_models([one, two], [0.5, 0.5], tmp_path / "out")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_broken_model_is_named_and_not_averaged(tmp_path: Path, number: float) -> None:
    one = a_model(tmp_path / "one", a=torch.ones(2), w=torch.tensor([1.0, 2.0]))
    two = a_model(tmp_path / "two", a=torch.ones(2), w=torch.tensor([3.0, number]))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=f"w is not finite in {two}.") as found:
        average_models([one, two], [0.5, 0.5], tmp_path / "out")
    assert str(one) not in str(found.value)


def test_whole_numbers_that_differ_are_refused(tmp_path: Path) -> None:
    one, two = (a_model(tmp_path / str(n), ids=torch.tensor([n])) for n in (1, 2))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="ids holds whole numbers that differ"):
        average_models([one, two], [0.5, 0.5], tmp_path / "out")


def test_weights_go_into_files_of_a_limited_size_and_come_back(tmp_path: Path) -> None:
    tensors = {f"t{n}": torch.full((4,), float(n)) for n in range(5)}  # 16 bytes each
    assert write_weights(tmp_path, tensors.items(), shard=40) == 80
    assert sorted(file.name for file in tmp_path.glob("*.safetensors")) == [
        f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)
    ]
    assert json.loads((tmp_path / INDEX).read_text())["weight_map"]["t2"] == "model-00002-of-00003.safetensors"
    read = Weights(tmp_path)
    assert list(read) == sorted(tensors) and all(torch.equal(read[name], tensors[name]) for name in read)
    assert read.shapes()["t0"] == (4,)


def test_no_more_than_one_file_is_held(tmp_path: Path) -> None:
    """When a tensor is asked for, all that do not share its file are on the disk already."""

    def tensors():  # type: ignore[no-untyped-def]
        for number in range(6):
            assert len(list(tmp_path.glob("part-*"))) == max(0, (number - 1) // 2)
            yield f"t{number}", torch.full((4,), float(number))

    assert write_weights(tmp_path, tensors(), shard=32) == 96


def test_other_weights_beside_the_model_are_not_it(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors")
    save_file({"extra": torch.zeros(2)}, tmp_path / "adapter_model.safetensors")
    assert list(Weights(tmp_path)) == ["w"]


def test_a_sharded_model_loads_in_transformers(toy: Loaded, toy_path: Path, tmp_path: Path) -> None:
    weights = Weights(toy_path)
    write_weights(tmp_path, ((name, weights[name]) for name in weights), shard=20_000)
    copy_beside(toy_path, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again = load(str(tmp_path), dtype=torch.float32).model
    assert all(torch.equal(a, b) for a, b in zip(toy.model.state_dict().values(), again.state_dict().values(), strict=True))


# ------------------------------------------------------------------------------------------------ adapters


def an_adapter(folder: Path, seed: int, toy_path: Path, *, rank: int = 2, alpha: float = 6.0) -> tuple[Path, Path]:
    """A trained-looking adapter of the toy, and the toy with it folded in as the trainer saves it."""
    loaded = load(str(toy_path), dtype=torch.float32)
    lora.add_lora(loaded.model, LoraConfig(rank=rank, alpha=alpha), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in lora.adapters(loaded.model).values():
        layer.lora_B.data.normal_(0, 0.05, generator=generator)
    lora.save_adapter(loaded.model, folder / "adapter", base=str(toy_path))
    save_model(loaded.model, loaded.tokenizer, folder / "model")
    return folder / "adapter", folder / "model"


def test_an_update_by_hand(toy_path: Path, tmp_path: Path) -> None:
    path, _ = an_adapter(tmp_path / "a", 1, toy_path, rank=2, alpha=6.0)
    adapter = read_adapter(path)
    name = "model.layers.0.self_attn.q_proj.weight"
    down, up = adapter.factors[name]
    expected = [[sum(3.0 * float(up[i, r]) * float(down[r, j]) for r in range(2)) for j in range(2)] for i in range(2)]
    found = merged(torch.zeros(up.shape[0], down.shape[1]), name, [adapter], [1.0])
    assert found[:2, :2].tolist() == [pytest.approx(row, abs=1e-7) for row in expected]


def test_merging_one_adapter_is_what_the_trainer_saves(toy_path: Path, tmp_path: Path) -> None:
    adapter, model = an_adapter(tmp_path / "a", 1, toy_path)
    (tmp_path / "out").mkdir()
    merge_adapters(toy_path, [read_adapter(adapter)], [1.0], tmp_path / "out")
    left, right = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", model))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_merged_adapters_are_the_average_of_the_merged_models(toy_path: Path, tmp_path: Path) -> None:
    """W + Σ aᵢ Δᵢ = Σ aᵢ (W + Δᵢ) where the aᵢ sum to 1."""
    made = [an_adapter(tmp_path / str(seed), seed, toy_path) for seed in (1, 2)]
    for name in ("merged", "averaged"):
        (tmp_path / name).mkdir()
    merge_adapters(toy_path, [read_adapter(adapter) for adapter, _ in made], [0.3, 0.7], tmp_path / "merged")
    average_models([model for _, model in made], [0.3, 0.7], tmp_path / "averaged")
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("merged", "averaged"))
    base = load_file(toy_path / "model.safetensors")
    assert all(torch.allclose(left[name], right[name], atol=1e-6) for name in left)
    assert any((left[name] - base[name]).abs().max() > 1e-3 for name in left)


def test_ranks_stacked_are_the_sum_exactly(toy_path: Path, tmp_path: Path) -> None:
    """One adapter of rank 2 + 3 computes what both compute together; in fp64 by hand, and in PEFT's layout on disk."""
    made = [read_adapter(an_adapter(tmp_path / str(s), s, toy_path, rank=r)[0]) for s, r in ((1, 2), (2, 3))]
    (tmp_path / "sum").mkdir()
    stacked(made, [1.0, 0.5], tmp_path / "sum", base=str(toy_path))
    found = read_adapter(tmp_path / "sum")
    assert found.rank == 5 and found.scaling == 1.0 and found.base == str(toy_path)
    for name, (down, up) in found.factors.items():
        parts = [
            (w * a.scaling) * (a.factors[name][1].double() @ a.factors[name][0].double())
            for a, w in zip(made, (1.0, 0.5), strict=True)
        ]
        assert torch.allclose(up.double() @ down.double(), parts[0] + parts[1], atol=1e-7), name
    (tmp_path / "merged").mkdir()
    merge_adapters(toy_path, [found], [1.0], tmp_path / "merged")
    (tmp_path / "both").mkdir()
    merge_adapters(toy_path, made, [1.0, 0.5], tmp_path / "both")
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("merged", "both"))
    assert all(torch.allclose(left[name], right[name], atol=1e-6) for name in left)


def test_peft_reads_the_stacked_adapter(toy: Loaded, toy_path: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    made = [read_adapter(an_adapter(tmp_path / str(seed), seed, toy_path)[0]) for seed in (1, 2)]
    (tmp_path / "sum").mkdir()
    stacked(made, [0.5, 0.5], tmp_path / "sum", base=str(toy_path))
    (tmp_path / "merged").mkdir()
    merge_adapters(toy_path, made, [0.5, 0.5], tmp_path / "merged")
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(toy_path)
    found = PeftModel.from_pretrained(plain, tmp_path / "sum").merge_and_unload()
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokens = torch.tensor([[5, 6, 7, 8]])
    assert torch.allclose(found(tokens).logits, ours(tokens).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_dora": True}, "use_dora: True"),
        ({"bias": "all"}, "bias: all"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "the type 'IA3'"),
    ],
)
def test_adapters_that_are_more_than_lora_are_refused(toy_path: Path, tmp_path: Path, change: dict, said: str) -> None:  # type: ignore[type-arg]
    path, _ = an_adapter(tmp_path / "a", 1, toy_path)
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(UserError, match=said):
        read_adapter(path)


def test_an_adapter_of_another_base_is_refused(toy_path: Path, tmp_path: Path) -> None:
    path, _ = an_adapter(tmp_path / "a", 1, toy_path)
    shutil.copytree(toy_path, tmp_path / "other")
    with pytest.raises(UserError, match="was trained on"):
        require_base([read_adapter(path)], tmp_path / "other")
    require_base([read_adapter(path)], toy_path)
    small = a_model(tmp_path / "small", w=torch.zeros(2, 2))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="which is not in the base"):
        merge_adapters(small, [read_adapter(path)], [1.0], tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "models is empty"),
        ({"models": ["a"]}, "names only a"),
        ({"models": ["a", "a"]}, "named twice"),
        ({"models": ["a", "b"], "adapters": ["c"]}, "both given"),
        ({"models": ["a", "b"], "weights": [1.0]}, "1 numbers for 2 parts"),
        ({"models": ["a", "b"], "weights": [1.0, 0.0]}, "expected a number above 0"),
        ({"models": ["a", "b"], "weights": [1.0, float("nan")]}, "expected a number above 0"),
        ({"models": ["a", "b"], "normalise": False}, "normalise is false"),
        ({"models": ["a", "b"], "model": "base"}, "only models to average"),
        ({"adapters": ["a"]}, "adapters need model"),
        ({"adapters": ["a"], "model": "a"}, "also one of adapters"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict, said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=said):
        AverageConfig(**settings)


def test_shares() -> None:
    assert AverageConfig(models=["a", "b"]).shares() == [0.5, 0.5]
    assert AverageConfig(models=["a", "b"], weights=[1, 3]).shares() == [0.25, 0.75]
    assert AverageConfig(adapters=["a", "b"], model="base", weights=[1, 1], normalise=False).shares() == [1, 1]
