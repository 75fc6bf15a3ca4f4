"""The reinforcement step: what moves, what must not, and what ends the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from posttrain.algorithms.family import FAMILY
from posttrain.core.config import GrpoConfig, KlConfig
from posttrain.core.types import Group
from posttrain.models.load import load
from posttrain.models.packing import pack
from posttrain.training.driver import BrokenStep
from posttrain.training.grpo import grpo, method_of, training_rows
from posttrain.training.policy import Policy
from posttrain.training.rl_step import add_scores, update
from posttrain.training.rounds import Collected, no_signal, require_version
from tests.training.helpers import group, grpo_config, policy, steps_of

PROMPTS = [list(range(60, 80)), list(range(100, 115))]


class Still:
    """A generator that writes nothing and takes over the weights as the engine does."""

    def __init__(self, made: Policy) -> None:
        self.version, self.view = -1, made.view

    async def update(self, version: int) -> None:
        self.view.refresh()
        self.version = version


def groups() -> list[Group]:
    return [
        group("a", PROMPTS[0], [[5, 6, 7], [5, 9], [8, 8, 8, 8]], [1.0, 0.0, 0.0]),
        group("b", PROMPTS[1], [[3], [4, 4], [5, 5, 5]], [0.0, 1.0, 1.0]),
    ]


def honest(made: Policy, found: list[Group]) -> list[Group]:
    """The same groups with the log-probabilities the policy itself gives, as a faithful sampler would record."""
    from dataclasses import replace

    from posttrain.core.types import floats

    out = []
    for each in found:
        rollouts = []
        for r in each.rollouts:
            row = r.rows[0]
            with torch.no_grad():
                logprobs = made.score(pack([row])).logprobs_L
            before = len(row.tokens) - len(logprobs)
            rollouts.append(replace(r, rows=(replace(row, logprobs=floats([0.0] * before + logprobs.tolist())),)))
        out.append(Group(each.task, tuple(rollouts)))
    return out


def make(toy_path: Path, config: GrpoConfig, *, reference: bool = False) -> Policy:
    return policy(load(str(toy_path), dtype=torch.float32), config, reference=reference)


def logprob(made: Policy, found: Sequence[Group]) -> list[list[float]]:
    with torch.no_grad():
        return [[float(made.score(pack([r.rows[0]])).logprobs_L.sum()) for r in each.rollouts] for each in found]


def one_update(made: Policy, found: list[Group], config: GrpoConfig) -> dict[str, float]:
    method = method_of(config)
    rows = training_rows(found, config, method)
    metrics = add_scores(made, rows, config, method, config.kl.coefficient)
    return {**metrics, **update(made, rows, config, method, config.kl.coefficient, seed=0, index=0)}


@pytest.mark.parametrize("algorithm", FAMILY)
@pytest.mark.parametrize("lora", ["lora", "full"])
def test_good_answers_become_likelier_and_bad_ones_less(toy_path: Path, algorithm: str, lora: str) -> None:
    config = grpo_config(
        algorithm=algorithm, learning_rate=1e-2 if lora == "lora" else 1e-3, **({"lora": None} if lora == "full" else {})
    )
    made = make(toy_path, config)
    found = honest(made, groups())
    before = logprob(made, found)
    for _ in range(3):
        one_update(made, honest(made, found), config)
    after = logprob(made, found)
    assert after[0][0] > before[0][0]  # the only right answer of the first task
    assert after[1][0] < before[1][0]  # the only wrong one of the second


@pytest.mark.parametrize("algorithm", FAMILY)
def test_micro_batches_do_not_change_the_update(toy_path: Path, algorithm: str) -> None:
    results = []
    for budget in (12, 4096):
        config = grpo_config(algorithm=algorithm, micro_batch_tokens=budget)
        made = make(toy_path, config)
        results.append(one_update(made, honest(made, groups()), config))
    for name in ("loss", "grad_norm", "entropy"):
        assert results[0][name] == pytest.approx(results[1][name], rel=1e-4, abs=1e-6), name


def test_unscored_rollouts_have_no_say(toy_path: Path) -> None:
    norms = []
    for extra in ([], [[9, 9, 9]]):
        config = grpo_config()
        made = make(toy_path, config)
        scores: list[float | None] = [1.0, 0.0, 0.0, *([None] if extra else [])]
        found = honest(made, [group("a", PROMPTS[0], [[5, 6, 7], [5, 9], [8, 8], *extra], scores)])
        norms.append(one_update(made, found, config)["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_a_group_without_signal_moves_nothing(toy_path: Path) -> None:
    flat = group("a", PROMPTS[0], [[5], [6]], [1.0, 1.0])
    assert no_signal(flat)
    config = grpo_config()
    made = make(toy_path, config)
    assert one_update(made, honest(made, [flat]), config)["grad_norm"] == 0


@pytest.mark.parametrize("form", ["k2_loss", "k3_loss"])
@pytest.mark.parametrize("lora", ["lora", "full"])
def test_the_kl_pulls_back_to_where_the_stage_started(toy_path: Path, form: str, lora: str) -> None:
    config = grpo_config(
        kl=KlConfig(coefficient=1.0, form=form),  # type: ignore[arg-type]
        learning_rate=5e-3 if lora == "lora" else 1e-3,
        algorithm="dr_grpo",
        **({"lora": None} if lora == "full" else {}),
    )
    made = make(toy_path, config, reference=True)
    flat = [
        group(g.task.id, list(g.rollouts[0].rows[0].tokens[: len(PROMPTS[i])]), [[5, 6], [7, 8, 9]], [0.0, 0.0])
        for i, g in enumerate(groups())
    ]
    with torch.no_grad():  # push the policy away from its start
        for name, master in made.optimizer.masters.items():
            if lora == "full" or "lora_B" in name:
                master.add_(0.02 * torch.randn(master.shape, generator=torch.Generator().manual_seed(len(name))))
    made.optimizer.write_back()

    def distance() -> float:
        with torch.no_grad():
            batch = pack([r.rows[0] for each in flat for r in each.rollouts])
            return float((made.score(batch).logprobs_L - made.reference_logprobs(batch)).square().mean())

    start = distance()
    for _ in range(6):
        one_update(made, honest(made, flat), config)
    assert 0 < distance() < start


def test_k1_is_taken_off_the_advantage_beside_the_normalised_reward(toy_path: Path) -> None:
    config = grpo_config(kl=KlConfig(coefficient=0.5), algorithm="grpo")
    method = method_of(config)
    made = make(toy_path, config, reference=True)
    found = honest(made, groups()[:1])
    plain = [row.advantage for row in training_rows(found, config, method)]
    with torch.no_grad():
        for name, master in made.optimizer.masters.items():
            if "lora_B" in name:
                master.add_(0.05)
    made.optimizer.write_back()
    rows = training_rows(honest(made, found), config, method)
    metrics = add_scores(made, rows, config, method, 0.5)
    k1 = [sum(row.sampled) - sum(row.reference) for row in rows]
    mean = sum(k1) / 3
    assert max(k1) - min(k1) > 1e-3
    assert [row.advantage for row in rows] == pytest.approx([a - 0.5 * (k - mean) for a, k in zip(plain, k1, strict=True)])
    assert metrics["kl/k1"] == pytest.approx(sum(k1) / sum(row.trained for row in rows), rel=1e-4)


def test_several_minibatches_use_the_probabilities_of_the_round(toy_path: Path) -> None:
    config = grpo_config(epochs=2, minibatches=2, learning_rate=5e-2)
    made = make(toy_path, config)
    metrics = one_update(made, honest(made, groups()), config)
    assert made.version == 4
    assert metrics["clip/low"] + metrics["clip/high"] > 0  # later passes left the range


def test_the_loop_notices_a_sampler_that_was_not_updated(toy_path: Path) -> None:
    config = grpo_config(steps=3)
    made = make(toy_path, config)

    async def collect(index: int, position: int) -> Collected:
        return Collected(honest(made, groups()), position + 2, {})

    with pytest.raises(BrokenStep, match="an update was lost"):
        steps_of(grpo(made, Still(made), collect, config, seed=0, start=0, state={}))  # type: ignore[arg-type]


def test_the_loop_notices_an_update_that_does_nothing(toy_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler says it has the new version, but its weights are the old ones: found at once, however small the change."""
    config = grpo_config(steps=3, learning_rate=1e-6)
    made = make(toy_path, config)
    with torch.no_grad():
        for name, master in made.optimizer.masters.items():
            if "lora_B" in name:
                master.add_(0.01)
    made.optimizer.write_back()
    made.view.refresh()
    monkeypatch.setattr(made.view, "refresh", lambda: None)

    async def collect(index: int, position: int) -> Collected:
        return Collected(honest(made, groups()), position + 2, {})

    with pytest.raises(BrokenStep, match="did not take over the new weights"):
        steps_of(grpo(made, Still(made), collect, config, seed=0, start=0, state={}))  # type: ignore[arg-type]


def test_a_gap_over_the_budget_ends_the_run(toy_path: Path) -> None:
    config = grpo_config(mismatch_budget=0.01)
    made = make(toy_path, config)

    async def collect(index: int, position: int) -> Collected:
        return Collected(groups(), position + 2, {})  # all log-probs recorded as -2

    before = {name: p.clone() for name, p in made.model.named_parameters()}
    with pytest.raises(BrokenStep, match="sampler and trainer differ"):
        steps_of(grpo(made, Still(made), collect, config, seed=0, start=0, state={}))  # type: ignore[arg-type]
    assert all(torch.equal(before[name], p) for name, p in made.model.named_parameters())


def test_too_many_unscored_end_the_run(toy_path: Path) -> None:
    config = grpo_config(max_unscored=0.2)
    made = make(toy_path, config)

    async def collect(index: int, position: int) -> Collected:
        return Collected([group("a", PROMPTS[0], [[5], [6], [7]], [1.0, None, 0.0])], 1, {})

    with pytest.raises(BrokenStep, match=r"1 of 3 samples have no score.*no answer"):
        steps_of(grpo(made, Still(made), collect, config, seed=0, start=0, state={}))  # type: ignore[arg-type]


def test_versions_are_compared_by_token() -> None:
    require_version(groups(), 0, 0, {})
    with pytest.raises(BrokenStep):
        require_version(groups(), 1, 0, {})


def test_overlong_answers_lose_reward(toy_path: Path) -> None:
    config = grpo_config(overlong_buffer=4, algorithm="dr_grpo")
    long = group("a", PROMPTS[0], [[5] * 8, [6] * 4, [7] * 6], [1.0, 1.0, 1.0])
    rows = training_rows([long], config, method_of(config))
    # penalties -1, 0, -0.5: rewards 0, 1, 0.5, mean 0.5
    assert [row.advantage for row in rows] == pytest.approx([-0.5, 0.5, 0.0])
