"""Reward models learn an order, and nothing about memory, company or interruption changes what they learn."""

from __future__ import annotations

import asyncio
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from posttrain.core.config import LoraConfig, PreferenceSource, RewardModelConfig
from posttrain.core.errors import PromiseBroken
from posttrain.core.protocols import Silent
from posttrain.core.stage import Stop
from posttrain.core.types import Pair, ints
from posttrain.models.load import load
from posttrain.models.reward_model import new_reward_model
from posttrain.records.metrics import read_metrics
from posttrain.records.paths import StagePaths
from posttrain.training.driver import Resumed, drive, resume
from posttrain.training.reward_model import TrainedReward, cost, reward_model, train_step
from posttrain.training.reward_report import held_out_report, scale
from tests.training.helpers import steps_of

LORA = LoraConfig(rank=4, alpha=8)
PROMPT = list(range(60, 75))


@dataclass(frozen=True)
class Element:
    rows: Sequence[array[int]]
    masks: Sequence[array[int]]
    pairs: Sequence[Pair]


def element(answers: Sequence[Sequence[int]], pairs: Sequence[Pair], prompt: Sequence[int] = PROMPT) -> Element:
    rows = [ints([*prompt, *answer]) for answer in answers]
    return Element(rows, [array("b", [0] * len(prompt) + [1] * len(answer)) for answer in answers], pairs)


def ranked(number: int) -> Element:
    """Three answers of bytes 1 to 5 and 11 to 15, the better the more of the higher."""
    draw = random.Random(number)
    answers = [
        [draw.randint(11, 15) if draw.random() < k / 2 else draw.randint(1, 5) for _ in range(5 + number % 3)] for k in range(3)
    ]
    return element(answers, [Pair(2, 1), Pair(2, 0), Pair(1, 0)], [*PROMPT, 80 + number])


ELEMENTS = [ranked(i) for i in range(24)]


def config(**changes: object) -> RewardModelConfig:
    settings = {
        "data": [PreferenceSource(source="x")],
        "lora": LORA,
        "learning_rate": 5e-3,
        "batch_size": 6,
        "steps": 6,
        "checkpoint_every": 2,
    }
    return RewardModelConfig(**{**settings, **changes})  # type: ignore[arg-type]


def fresh(toy_path: Path, **changes: object) -> TrainedReward:
    asked = config(**changes)
    loaded = load(str(toy_path), dtype=torch.float32)
    reward = new_reward_model(loaded, asked.lora, members=asked.members, ensemble=asked.ensemble, seed=0)
    return TrainedReward(reward, asked, total_steps=6, seed=0)


def weights(trained: TrainedReward) -> dict[str, torch.Tensor]:
    return {f"{i}/{n}": p.detach().clone() for i, m in enumerate(trained.reward.members) for n, p in m.named_parameters()}


def gradients(trained: TrainedReward, elements: Sequence[Element]) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of one step and its gradients, caught before the optimizers use them."""
    found: dict[str, torch.Tensor] = {}

    def keep() -> dict[str, float]:
        for i, optimizer in enumerate(trained.optimizers):
            found.update({f"{i}/{n}": m.grad.clone() for n, m in optimizer.masters.items() if m.grad is not None})
        return {}

    trained.step = keep  # type: ignore[method-assign]
    return train_step(trained, elements, trained.config, 0)["loss"], found


@pytest.mark.parametrize(("members", "ensemble"), [(1, "adapters"), (2, "adapters"), (2, "heads")])
def test_it_learns_the_order(toy_path: Path, members: int, ensemble: str) -> None:
    trained = fresh(toy_path, steps=30, learning_rate=1e-2, members=members, ensemble=ensemble)
    steps = steps_of(reward_model(trained, ELEMENTS, range(6, 24), range(6), trained.config, seed=0, start=0))
    assert steps[0].metrics["loss"] > 0.6
    assert steps[-1].metrics["accuracy/validation"] > 0.9
    report = held_out_report(trained.reward, ELEMENTS[:6], 4096)
    assert report["accuracy"]["low"] > 0.5 and report["accuracy"]["n"] == 6 and report["pairs"] == 18
    assert ("ensemble" in report) == (members == 2)
    if members == 2:
        assert min(report["ensemble"]["members"]) > 0.8 and report["ensemble"]["std"] > 0


@pytest.mark.parametrize(("members", "ensemble"), [(1, "adapters"), (2, "adapters"), (2, "heads")])
def test_micro_batches_change_neither_loss_nor_gradients(toy_path: Path, members: int, ensemble: str) -> None:
    results = [
        gradients(fresh(toy_path, micro_batch_tokens=budget, members=members, ensemble=ensemble), ELEMENTS[:6])
        for budget in (1, 60, 4096)
    ]
    for loss, found in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-5)
        assert found.keys() == results[0][1].keys() and found
        assert all(torch.allclose(found[name], results[0][1][name], atol=1e-6, rtol=1e-4) for name in found)


def test_the_loss_by_hand(toy_path: Path) -> None:
    """From the rewards themselves: 2 prompts, one with 3 pairs and one with 1 soft pair with a margin."""
    trained = fresh(toy_path, centring=0.1, margin=2.0, label_smoothing=0.1)
    elements = [ranked(0), element([[1, 2], [3, 4, 5]], [Pair(1, 0, 0.75, 0.5)])]
    first, second = (trained.reward.score(e.rows, budget=4096)[:, 0].double() for e in elements)

    def bt(z: torch.Tensor, q: float) -> torch.Tensor:
        return q * torch.log1p(torch.exp(-z)) + (1 - q) * torch.log1p(torch.exp(z))

    three = [(2, 1), (2, 0), (1, 0)]
    expected = sum(bt(first[b] - first[w], 0.9) + 0.1 * (first[b] + first[w]) ** 2 for b, w in three) / 3 / 2
    expected += (bt(second[1] - second[0] - 1.0, 0.7) + 0.1 * (second[1] + second[0]) ** 2) / 2  # 0.75·0.9 + 0.25·0.1
    loss, _ = gradients(trained, elements)
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_a_step_raises_the_better_and_lowers_the_worse(toy_path: Path) -> None:
    trained = fresh(toy_path, learning_rate=1e-3, centring=0.0)
    one = [element([[11, 12, 13], [1, 2, 3]], [Pair(0, 1)])]
    before = trained.reward.score(one[0].rows, budget=4096)[:, 0]
    train_step(trained, one, trained.config, 0)
    after = trained.reward.score(one[0].rows, budget=4096)[:, 0]
    assert after[0] - after[1] > before[0] - before[1]


def test_an_answer_in_no_pair_does_not_matter(toy_path: Path) -> None:
    """The masked row: it is packed and scored beside the others, and moves nothing."""
    pairs = [Pair(0, 1)]
    loss, found = gradients(fresh(toy_path), [element([[11, 12], [1, 2]], pairs)])
    more, also = gradients(fresh(toy_path), [element([[11, 12], [1, 2], [9, 9, 9]], pairs)])
    assert more == pytest.approx(loss, rel=1e-6)
    assert all(torch.allclose(found[name], also[name], atol=1e-6) for name in found)


def test_members_train_as_they_would_alone(toy_path: Path) -> None:
    """The first of two adapters ends where the only one does: neither gradients nor their clipping are shared."""
    both, one = (fresh(toy_path, members=members, max_grad_norm=0.1) for members in (2, 1))
    for trained in (both, one):
        for index in range(2):
            train_step(trained, ELEMENTS[:4], trained.config, index)
    alone, together = weights(one), weights(both)
    assert all(torch.equal(alone[name], together[name]) for name in alone if "lora_" in name or "head" in name)


def test_a_prompts_rows_cost_their_prompt_once() -> None:
    assert cost(element([[1, 2], [3, 4, 5]], [Pair(0, 1)])) == 15 + 2 + 3


def test_scale_is_of_each_member(toy_path: Path) -> None:
    reward = fresh(toy_path, members=2).reward
    mean, std = scale(reward, ELEMENTS[:4], 100)
    scores = torch.cat([reward.score(e.rows, budget=4096) for e in ELEMENTS[:4]])
    assert mean == pytest.approx(scores.mean(0).tolist(), abs=1e-5)
    assert std == pytest.approx(scores.std(0, unbiased=False).tolist(), abs=1e-5)


def run(trained: TrainedReward, paths: StagePaths, start: Resumed | None = None) -> None:
    start = start or Resumed()
    loop = reward_model(trained, ELEMENTS, range(4, 24), range(4), trained.config, seed=0, start=start.steps)
    asyncio.run(drive(loop, trained, paths, trained.config, start=start, total=6, reporter=Silent(), stop=Stop()))


def test_resumed_equals_uninterrupted(toy_path: Path, tmp_path: Path) -> None:
    whole, resumed = fresh(toy_path, members=2), fresh(toy_path, members=2)
    run(whole, StagePaths(tmp_path / "whole"))
    run(fresh(toy_path, members=2), paths := StagePaths(tmp_path / "parts"))  # leaves the checkpoint after step 4
    start = resume(resumed, paths, Silent())
    assert start.steps == 4
    run(resumed, paths, start)
    after = weights(resumed)
    assert all(torch.equal(value, after[name]) for name, value in weights(whole).items())
    timeless = [
        [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_metrics(p.metrics)]
        for p in (StagePaths(tmp_path / "whole"), paths)
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("point", ["step:loss", "step:gradient"])
def test_a_non_finite_number_reaches_neither_the_weights_nor_silence(
    toy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setattr("posttrain.core.faults._passages", {})
    monkeypatch.setenv("POSTTRAIN_FAULT", f"{point}:1=nan")
    trained = fresh(toy_path)
    before = weights(trained)
    with pytest.raises(PromiseBroken, match=r"step 0.*not finite"):
        run(trained, StagePaths(tmp_path))
    after = weights(trained)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert any(value != value for value in read_metrics(StagePaths(tmp_path).metrics)[-1].values())
