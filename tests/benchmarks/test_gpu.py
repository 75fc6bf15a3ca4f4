"""The GPU benchmark where there is no GPU: its arithmetic by hand, its refusals, and every lane at toy size on the CPU."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import lanes
from benchmarks.gpu.arithmetic import (
    attention_operations,
    decode_bytes,
    head_weights,
    layer_weights,
    token_bytes,
    training_operations,
    utilisation,
)
from benchmarks.gpu.device import data_sheet
from benchmarks.gpu.lanes import Result
from benchmarks.gpu.shapes import SHAPES, model_of

SMALL = {
    "hidden_size": 8,
    "intermediate_size": 20,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 100,
}


def test_weights_of_products():
    # a layer: q 8·8, k and v 8·4 each, o 8·8, gate and up 8·20 each, down 20·8
    assert layer_weights(SMALL) == 3 * (64 + 64 + 64 + 320 + 160) == 2016
    assert head_weights(SMALL) == 800
    smollm2 = SHAPES["smollm2-135m"]
    assert (layer_weights(smollm2), head_weights(smollm2)) == (106_168_320, 28_311_552)


@pytest.mark.parametrize(("name", "billions"), [("qwen2.5-0.5b", 0.36), ("qwen2.5-1.5b", 1.31), ("qwen2.5-7b", 6.53)])
def test_the_shapes_have_the_sizes_their_authors_give(name, billions):
    """Without embeddings, as on their model cards; biases and norms are below the rounding."""
    assert round(layer_weights(SHAPES[name]) / 1e9, 2) == billions


def test_the_products_are_those_of_the_model():
    model = model_of("toy", torch.device("cpu"))
    linear = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))
    assert layer_weights(SHAPES["toy"]) + head_weights(SHAPES["toy"]) == linear


def test_operations_of_a_training_step():
    # rows of 3 and 1 tokens: 6 + 1 pairs; scores and sums over 4 heads of size 2 in 3 layers: 4·3·4·2 operations a pair
    assert attention_operations(SMALL, [3, 1]) == 96 * 7 == 672
    forward = 2 * 4 * 2016 + 2 * 2 * 800  # 4 tokens through the layers, 2 of them through the head
    assert training_operations(SMALL, [3, 1], 2, full=True) == 3 * forward + 3 * 672 == 60_000
    assert training_operations(SMALL, [3, 1], 2, full=False) == 2 * forward + 3 * 672 == 40_672
    assert utilisation(60_000, seconds=2.0, peak=100_000) == 0.3


def test_bytes_of_decode_steps():
    assert token_bytes(SMALL) == 2 * 3 * 2 * 2 * 2 == 48  # keys and values, layers, heads, size, bytes
    # three steps: all weights each time, both prompts each time, and four rows' own 1, then 2, then 3 tokens
    assert decode_bytes(SMALL, [5, 7], rows=4, steps=3) == 3 * 2 * 2816 + 48 * (3 * 12 + 4 * 6) == 19_776


def test_the_peak_is_found_by_the_devices_name():
    assert data_sheet("NVIDIA H100 80GB HBM3") == 989e12
    assert data_sheet("NVIDIA H100 PCIe") == 756e12
    assert data_sheet("NVIDIA T1000") is None


def test_every_lane_is_of_a_known_kind_and_model():
    assert all(lane in lanes.RUNS and model in SHAPES for lane, model, _ in lanes.LANES + lanes.TOY_LANES)
    wanted = {lane: target for lane, _, target in lanes.LANES if target is not None}
    assert wanted == {"rollouts": 15.0, "decode": 0.35, "sft": 0.45, "grpo": 4.0}


def test_targets_stand_beside_the_results():
    results = [Result("sft", "m", 1234.5, "MFU", 0.46, 0.45, 70.25), Result("decode", "m", 10.0, "of bandwidth", 0.3, 0.35)]
    assert command.table(results).splitlines() == [
        "lane    model  tokens/s  other's  measure       value  to reach       memory",
        "sft     m      1,234              MFU           0.46   0.45: reached  70.2 GiB",
        "decode  m      10                 of bandwidth  0.3    0.35: missed",
    ]


def ended(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    return int(end.value.code or 0)


def test_without_a_gpu_it_says_so_and_ends_with_4(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ended([]) == 4
    said = capsys.readouterr().err.strip()
    assert said == "This benchmark needs a CUDA GPU and finds none. Try its code out with --toy --device cpu."


def test_a_cpu_is_for_trying_out_only(capsys):
    assert ended(["--device", "cpu"]) == 2
    assert "--toy" in capsys.readouterr().err


def test_every_lane_runs_at_toy_size(tmp_path):
    command.main(["--toy", "--device", "cpu", "--out", str(tmp_path / "gpu.json")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    results = {result["lane"]: result for result in found["results"]}
    assert set(results) == set(lanes.RUNS)
    assert all(result["rate"] > 0 and result["value"] > 0 for result in results.values())
    assert results["rollouts"]["gap"] < 1e-4 and results["grpo"]["gap"] < 1e-4  # fp32: both sides compute the same


def test_sides_that_compute_something_else_end_with_3(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lanes.plain, "gap", lambda *given: 0.5)
    asked = ["--toy", "--device", "cpu", "--lane", "rollouts", "--lane", "decode", "--out", str(tmp_path / "gpu.json")]
    assert ended(asked) == 3
    assert "0.500 from a plain forward's" in capsys.readouterr().err
    assert [result["lane"] for result in json.loads((tmp_path / "gpu.json").read_text())["results"]] == ["decode"]
