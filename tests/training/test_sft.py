"""Supervised fine-tuning learns, and nothing about memory or interruption changes what it learns."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from posttrain.core.errors import Interrupted, PromiseBroken
from posttrain.core.protocols import Silent
from posttrain.core.stage import Stop
from posttrain.models.load import load
from posttrain.records.metrics import read_metrics
from posttrain.records.paths import StagePaths
from posttrain.training.driver import Resumed, drive, resume
from posttrain.training.policy import Policy
from posttrain.training.sft import sft
from tests.training.helpers import ListRows, counting_rows, policy, sft_config, steps_of


def fresh(toy_path: Path, **changes: object) -> Policy:
    return policy(load(str(toy_path), dtype=torch.float32), sft_config(**changes))


def weights(trained: Policy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trained.model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def run(trained: Policy, paths: StagePaths, start: Resumed | None = None, stop: Stop | None = None) -> None:
    config = trained.config
    start = start or Resumed()
    loop = sft(trained, counting_rows(), range(24), [], config, seed=0, start=start.steps)  # type: ignore[arg-type]
    asyncio.run(drive(loop, trained, paths, config, start=start, total=6, reporter=Silent(), stop=stop or Stop()))


@pytest.mark.parametrize(("lora", "least"), [(None, 0.5), (sft_config().lora, 0.95)])  # adapters on a random body learn little
def test_it_learns_to_count(toy_path: Path, lora: object, least: float) -> None:
    trained = fresh(toy_path, lora=lora, learning_rate=2e-2, steps=40)
    steps = steps_of(sft(trained, counting_rows(), range(4, 24), range(4), trained.config, seed=0, start=0))  # type: ignore[arg-type]
    assert steps[0].metrics["loss"] > 4
    assert steps[-1].metrics["loss"] < least * steps[0].metrics["loss"]
    assert steps[-1].metrics["loss/validation"] < least * 6
    assert "loss/validation" not in steps[0].metrics


def test_the_samplers_copy_is_made_when_asked_for_and_follows_loaded_weights(toy_path: Path, tmp_path: Path) -> None:
    trained = fresh(toy_path)
    run(trained, StagePaths(tmp_path))
    assert "view" not in vars(trained)
    other = fresh(toy_path)
    name = "model.layers.0.mlp.up_proj.weight"
    before = other.view.module.get_parameter(name).clone()
    other.load_state({key: value.clone() for key, value in trained.state().items()}, trained.version)
    assert other.view.stale() == []
    assert not torch.equal(other.view.module.get_parameter(name), before)
    assert torch.equal(other.view.module.get_parameter(name), trained.view.module.get_parameter(name))


def test_micro_batches_do_not_change_the_step(toy_path: Path) -> None:
    results = []
    for budget in (8, 20, 4096):
        trained = fresh(toy_path, micro_batch_tokens=budget, steps=3)
        steps = steps_of(sft(trained, counting_rows(), range(24), [], trained.config, seed=0, start=0))  # type: ignore[arg-type]
        results.append(([s.metrics["loss"] for s in steps], [s.metrics["grad_norm"] for s in steps]))
    for losses, norms in results[1:]:
        assert losses == pytest.approx(results[0][0], rel=1e-5)
        assert norms == pytest.approx(results[0][1], rel=1e-4)


def test_a_masked_token_is_never_trained(toy_path: Path) -> None:
    """What a token under a zero mask is changes nothing; unmasked, it does."""

    def loss(last: int, trained: int) -> float:
        rows = ListRows([([*tokens, last], [*mask, trained]) for tokens, mask in counting_rows().rows])
        made = fresh(toy_path, steps=1)
        return steps_of(sft(made, rows, range(24), [], made.config, seed=0, start=0))[0].metrics["loss"]  # type: ignore[arg-type]

    assert loss(5, 0) == pytest.approx(loss(200, 0), rel=1e-6)
    assert abs(loss(5, 1) - loss(200, 1)) > 1e-4


def test_resume_equals_no_interruption_bit_for_bit(toy_path: Path, tmp_path: Path) -> None:
    whole = fresh(toy_path)
    run(whole, StagePaths(tmp_path / "whole"))

    paths = StagePaths(tmp_path / "parts")
    with pytest.raises(Interrupted) as stopped:
        run(fresh(toy_path), paths, stop=Stop(15))
    assert stopped.value.exit_code == 143
    second = fresh(toy_path)
    start = resume(second, paths, Silent())
    assert start.steps == 1
    run(second, paths, start)

    assert same(weights(whole), weights(second))
    timeless = [
        [{k: v for k, v in m.items() if not k.startswith("time/")} for m in read_metrics(p.metrics)]
        for p in (StagePaths(tmp_path / "whole"), paths)
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("point", ["step:loss", "step:gradient"])
def test_a_non_finite_number_reaches_neither_the_weights_nor_silence(
    toy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setattr("posttrain.core.faults._passages", {})
    monkeypatch.setenv("POSTTRAIN_FAULT", f"{point}:3=nan")
    trained, paths = fresh(toy_path), StagePaths(tmp_path)
    before: list[dict[str, torch.Tensor]] = []
    original = trained.step

    def step() -> dict[str, float]:
        before.append(weights(trained))
        return original()

    monkeypatch.setattr(trained, "step", step)
    with pytest.raises(PromiseBroken, match=r"step 2.*not finite") as broken:
        run(trained, paths)
    assert broken.value.exit_code == 3
    if point == "step:gradient":
        assert same(before[-1], weights(trained))
    assert any(value != value for value in read_metrics(paths.metrics)[-1].values())  # the NaN is in the log
    assert (tmp_path / "broken-step-000002.safetensors").exists()


def test_a_torn_checkpoint_is_passed_over(toy_path: Path, tmp_path: Path) -> None:
    paths = StagePaths(tmp_path)
    run(fresh(toy_path, keep_checkpoints=5), paths)
    newest = max(paths.checkpoints.glob("step-*"))
    tensors = newest / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-10])
    start = resume(fresh(toy_path), paths, Silent())
    assert start.steps == 2
    assert "passed over" in paths.events.read_text()
