"""Rounds of online DPO: pairs of the policy's own answers, the reference it starts from, and what ends the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from posttrain.core.config import MathGrader, OnlineDpoConfig, TaskSource
from posttrain.core.types import Group, Pair, floats
from posttrain.models.load import load
from posttrain.models.packing import pack
from posttrain.synthesis.preferences import paired
from posttrain.training.dpo import objective
from posttrain.training.driver import BrokenStep, Step
from posttrain.training.online_dpo import compared, learn, online_dpo, with_reference
from posttrain.training.policy import Policy
from posttrain.training.rounds import Collected
from tests.training.helpers import LORA, group, steps_of

PROMPTS = [list(range(60, 80)), list(range(100, 115))]
END = 257


class Still:
    """A generator that writes nothing and takes over the weights as the engine does."""

    def __init__(self, made: Policy, *, deaf: bool = False) -> None:
        self.version, self.view, self.deaf = -1, made.view, deaf

    async def update(self, version: int) -> None:
        if not self.deaf:
            self.view.refresh()
        self.version = version


def config_of(**changes: Any) -> OnlineDpoConfig:
    settings = {
        "tasks": [TaskSource(source="x")],
        "graders": [MathGrader()],
        "lora": LORA,
        "samples_per_prompt": 3,
        "prompts_per_step": 2,
        "steps": 3,
        "max_tokens": 8,
        "learning_rate": 1e-2,
    }
    return OnlineDpoConfig(**{**settings, **changes})


def make(toy_path: Path, config: OnlineDpoConfig) -> Policy:
    return Policy(load(str(toy_path), dtype=torch.float32), config, total_steps=6, seed=0, reference=True)


def groups(scores: Sequence[float | None] = (1.0, 0.5, 0.0)) -> list[Group]:
    return [
        group("a", PROMPTS[0], [[5, 6, END], [5, 9], [8, 8, 8, 8]], list(scores)),
        group("b", PROMPTS[1], [[3], [4, 4], [5, 5, 5]], [0.0, 1.0, 1.0]),
    ]


def honest(made: Policy, found: Sequence[Group], *, off: float = 0.0) -> list[Group]:
    """The groups with the policy's own log-probabilities and version, as a faithful sampler would record them."""
    out = []
    for each in found:
        rollouts = []
        for r in each.rollouts:
            row = r.rows[0]
            with torch.no_grad():
                logprobs = (made.score(pack([row])).logprobs_L + off).tolist()
            before = len(row.tokens) - len(logprobs)
            versions = type(row.versions)("i", [-1] * before + [made.version] * len(logprobs))
            rollouts.append(replace(r, rows=(replace(row, logprobs=floats([0.0] * before + logprobs), versions=versions),)))
        out.append(Group(each.task, tuple(rollouts)))
    return out


def pairing(scores: Sequence[float]) -> list[Pair]:
    return paired(scores, [True] * len(scores), "best_worst", 0.0)


def logprobs(made: Policy, found: Sequence[Group]) -> list[list[float]]:
    with torch.no_grad():
        return [[float(made.score(pack([r.rows[0]])).logprobs_L.sum()) for r in each.rollouts] for each in found]


def run(made: Policy, config: OnlineDpoConfig, found: Sequence[Group], *, off: float = 0.0, deaf: bool = False) -> list[Step]:
    async def collect(index: int, position: int) -> Collected:
        return Collected(honest(made, found, off=off), position + 2, {})

    generator: Any = Still(made, deaf=deaf)
    return steps_of(online_dpo(made, generator, collect, pairing, frozenset(), config, start=0, state={}))


@pytest.mark.parametrize("loss", ["dpo", "ipo", "simpo", "kto"])
@pytest.mark.parametrize("lora", ["lora", "full"])
def test_the_best_gains_on_the_worst(toy_path: Path, loss: str, lora: str) -> None:
    config = config_of(loss=loss, **({"lora": None, "learning_rate": 1e-3} if lora == "full" else {}))
    made = make(toy_path, config)
    before = logprobs(made, groups())
    steps = run(made, config, groups())
    after = logprobs(made, groups())
    assert after[0][0] - after[0][2] > before[0][0] - before[0][2]
    assert after[1][1] - after[1][0] > before[1][1] - before[1][0]
    assert [step.metrics["pairs"] for step in steps] == [2.0] * 3
    assert made.version == 3 and steps[-1].state == {"position": 6}


def test_the_reference_stays_where_the_stage_began(toy_path: Path) -> None:
    config = config_of()
    made = make(toy_path, config)
    aim = objective(config, temperature=1.0)
    begun = with_reference(made, compared(groups(), pairing, frozenset(), config), aim, config)
    steps = run(made, config, groups())
    ended = with_reference(made, compared(groups(), pairing, frozenset(), config), aim, config)
    for one, other in zip(begun, ended, strict=True):
        assert list(other.reference) == pytest.approx(list(one.reference), abs=1e-4)
    assert steps[0].metrics["kl/k1"] == pytest.approx(0, abs=1e-5)
    assert steps[0].metrics["rewards/margin"] == pytest.approx(0, abs=1e-4)
    assert steps[-1].metrics["rewards/margin"] > 1e-3


def test_a_round_without_pairs_changes_nothing(toy_path: Path) -> None:
    config = config_of(steps=1)
    made = make(toy_path, config)
    flat = [group("a", PROMPTS[0], [[5, 6], [7]], [1.0, 1.0])]
    before = {name: value.clone() for name, value in made.optimizer.masters.items()}
    (step,) = run(made, config, flat)
    assert step.metrics["pairs"] == 0 and "loss" not in step.metrics and made.version == 0
    assert all(torch.equal(value, before[name]) for name, value in made.optimizer.masters.items())


def test_unscored_answers_are_in_no_pair() -> None:
    config = config_of()
    (only,) = compared([groups((1.0, None, 0.5))[0]], pairing, frozenset(), config)
    assert [list(a.tokens[-2:]) for a in only.answers] == [[6, END], [8, 8]]
    assert only.pairs == [Pair(0, 1, margin=0.5)]
    assert compared([groups((1.0, None, None))[0]], pairing, frozenset(), config) == []


def test_the_overlong_punishment_decides_between_equals() -> None:
    config = config_of(max_tokens=4, overlong_buffer=2)
    (only,) = compared([groups((1.0, 1.0, 1.0))[0]], pairing, frozenset(), config)
    assert [len(a.tokens) - 20 for a in only.answers] == [2, 4]  # of 2, 3 and 4 tokens, the last two over the soft limit


def test_formatting_is_left_out() -> None:
    (only, _) = compared(groups(), pairing, frozenset([END]), config_of())
    assert sum(only.answers[0].mask) == len(only.answers[0].sampled) == 2


def test_sampler_and_trainer_must_agree(toy_path: Path) -> None:
    config = config_of(mismatch_budget=0.1)
    made = make(toy_path, config)
    before = {name: value.clone() for name, value in made.optimizer.masters.items()}
    with pytest.raises(BrokenStep, match="differ by 0.500"):
        run(made, config, groups(), off=0.5)
    assert made.version == 0 and all(torch.equal(value, before[name]) for name, value in made.optimizer.masters.items())


def test_a_sampler_that_keeps_its_weights_ends_the_run(toy_path: Path) -> None:
    config = config_of()
    with pytest.raises(BrokenStep, match="did not take over"):
        run(make(toy_path, config), config, groups(), deaf=True)


def test_too_few_scores_end_the_run(toy_path: Path) -> None:
    config = config_of()
    with pytest.raises(BrokenStep, match="have no score"):
        run(make(toy_path, config), config, groups((None, None, 0.0)))


def test_micro_batches_do_not_change_the_step(toy_path: Path) -> None:
    found = []
    for budget in (10, 4096):
        config = config_of(micro_batch_tokens=budget)
        made = make(toy_path, config)
        aim = objective(config, temperature=config.temperature)
        elements = with_reference(made, compared(honest(made, groups()), pairing, frozenset(), config), aim, config)
        found.append(learn(made, elements, aim, config, 0))
    for name in ("loss", "grad_norm", "entropy", "gap/mean"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-4, abs=1e-6), name
