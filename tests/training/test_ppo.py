"""PPO: what moves the policy and what the critic, what neither may hear, and that memory and interruption change nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from posttrain.algorithms.kl import adapt
from posttrain.core.config import KlConfig, MathGrader, PpoConfig, TaskSource
from posttrain.core.config.data import DataSource
from posttrain.core.types import Group, floats
from posttrain.models.load import Loaded, load
from posttrain.models.packing import pack
from posttrain.models.sibling import sibling
from posttrain.training.actor_critic import ActorCritic, Critic
from posttrain.training.driver import BrokenStep
from posttrain.training.optimizer import NonFinite
from posttrain.training.policy import Policy
from posttrain.training.ppo import Mixed, episodes, estimate, ppo, update
from posttrain.training.rl_step import RlRow, score_rows
from posttrain.training.rounds import Collected
from tests.training.helpers import LORA, counting_rows, group, steps_of

PROMPTS = [list(range(60, 80)), list(range(100, 115))]


def ppo_config(**changes: object) -> PpoConfig:
    settings = {
        "tasks": [TaskSource(source="x")],
        "graders": [MathGrader()],
        "lora": LORA,
        "critic_lora": LORA,
        "samples_per_prompt": 3,
        "prompts_per_step": 2,
        "minibatches": 1,
        "steps": 4,
        "max_tokens": 8,
        "kl": KlConfig(),
        "whiten_advantages": True,
    }
    return PpoConfig(**{**settings, **changes})  # type: ignore[arg-type]


def actor_critic(loaded: Loaded, config: PpoConfig, *, total: int = 6) -> ActorCritic:
    policy = Policy(loaded, config, total_steps=total, seed=0, reference=config.kl.coefficient > 0)
    return ActorCritic(policy, Critic(sibling(policy.model, config.critic_lora, seed=1), config, total_steps=total))


def make(toy_path: Path, config: PpoConfig) -> ActorCritic:
    return actor_critic(load(str(toy_path), dtype=torch.float32), config)


def groups() -> list[Group]:
    return [
        group("a", PROMPTS[0], [[5, 6, 7], [5, 9], [8, 8, 8, 8]], [1.0, 0.0, 0.0]),
        group("b", PROMPTS[1], [[3], [4, 4], [5, 5, 5]], [0.0, 1.0, 1.0]),
    ]


def honest(made: ActorCritic, found: Sequence[Group]) -> list[Group]:
    """The same groups with the log-probabilities and the version of the policy as it is now."""
    out = []
    for each in found:
        rollouts = []
        for r in each.rollouts:
            row = r.rows[0]
            with torch.no_grad():
                logprobs = made.policy.score(pack([row])).logprobs_L.tolist()
            versions = type(row.versions)("i", [made.version if m else -1 for m in row.mask])
            filled = replace(row, logprobs=floats([0.0] * (len(row.tokens) - len(logprobs)) + logprobs), versions=versions)
            rollouts.append(replace(r, rows=(filled,)))
        out.append(Group(each.task, tuple(rollouts)))
    return out


def learnt(
    made: ActorCritic, found: Sequence[Group], config: PpoConfig, mixed: Mixed | None = None, *, index: int = 0
) -> dict[str, float]:
    coefficient = config.kl.coefficient
    rows = episodes(found, config)
    metrics = score_rows(made.policy, rows, config, coefficient) | estimate(made.critic, rows, config, coefficient)
    return metrics | update(made, rows, config, coefficient, mixed, seed=0, index=index)


def logprob(made: ActorCritic, found: Sequence[Group]) -> list[list[float]]:
    with torch.no_grad():
        return [[float(made.policy.score(pack([r.rows[0]])).logprobs_L.sum()) for r in each.rollouts] for each in found]


def warm(made: ActorCritic, scale: float = 0.3) -> None:
    """Give the critic a head, so that its values are not all 0."""
    with torch.no_grad():
        start = scale * torch.randn(made.critic.head.weight.shape, generator=torch.Generator().manual_seed(2))
        made.critic.optimizer.masters["head.weight"].copy_(start)
    made.critic.optimizer.write_back()


def rows_with(made: ActorCritic, config: PpoConfig, found: Sequence[Group]) -> list[RlRow]:
    rows = episodes(found, config)
    score_rows(made.policy, rows, config, config.kl.coefficient)
    estimate(made.critic, rows, config, config.kl.coefficient)
    return rows


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_good_answers_become_likelier_and_bad_ones_less(toy_path: Path, full: bool) -> None:
    changes: dict[str, object] = {"lora": None, "critic_lora": None} if full else {}
    config = ppo_config(learning_rate=1e-3 if full else 1e-2, **changes)
    made = make(toy_path, config)
    before = logprob(made, groups())
    for index in range(3):
        learnt(made, honest(made, groups()), config, index=index)
    after = logprob(made, groups())
    assert after[0][0] > before[0][0]  # the only right answer of the first task
    assert after[1][0] < before[1][0]  # the only wrong one of the second


def test_the_critic_learns_what_to_expect(toy_path: Path) -> None:
    """Rewards that the prompt alone tells: the value loss falls and the critic comes to explain the returns; the policy, whose
    answers then hold no surprise, stays."""
    told = [
        group("a", PROMPTS[0], [[5, 6], [7, 8]], [1.0, 1.0]),
        group("b", PROMPTS[1], [[3, 4], [9, 2]], [0.0, 0.0]),
    ]
    config = ppo_config(learning_rate=1e-9, critic_learning_rate=2e-2, value_clip=None, whiten_advantages=False, gae_lambda=1.0)
    made = make(toy_path, config)
    history = [learnt(made, honest(made, told), config, index=i) for i in range(20)]
    assert history[0]["value/mean"] == 0  # a fresh head promises nothing
    assert history[0]["value/explained_variance"] == pytest.approx(0, abs=1e-6)
    assert history[0]["loss/value"] == pytest.approx(0.25)  # ½·1² on half of the tokens
    assert history[-1]["loss/value"] < 0.1 * history[0]["loss/value"]
    assert history[-1]["value/explained_variance"] > 0.9
    assert history[-1]["advantage/std"] < 0.3 * history[0]["advantage/std"]


def test_the_value_loss_does_not_move_the_policy_nor_the_policy_the_critic(toy_path: Path) -> None:
    config = ppo_config()
    made = make(toy_path, config)
    warm(made)
    rows = rows_with(made, config, honest(made, groups()))
    from posttrain.training.ppo import accumulate_values
    from posttrain.training.rl_step import Means

    accumulate_values(made.critic, rows, config, Means(), 0)
    assert all(m.grad is None for m in made.policy.optimizer.masters.values())
    assert made.critic.optimizer.norm() > 0
    frozen = {id(p) for p in made.policy.model.parameters() if not p.requires_grad}
    assert {id(p) for p in made.critic.body.parameters() if not p.requires_grad} == frozen  # no second body


@pytest.mark.parametrize("mixing", [False, True], ids=["ppo", "ptx"])
def test_micro_batches_do_not_change_the_update(toy_path: Path, mixing: bool) -> None:
    """Losses and both gradients, the value loss and ptx with their own denominators included."""
    results = []
    for budget in (12, 30, 4096):
        config = ppo_config(micro_batch_tokens=budget, kl=KlConfig(coefficient=0.1), ptx_coefficient=0.5)
        made = make(toy_path, config)
        warm(made)
        results.append(learnt(made, honest(made, groups()), config, Mixed(counting_rows(), 5, 3) if mixing else None))
    names = ["loss", "loss/value", "grad_norm", "grad_norm/critic", "entropy", "value/mean", *(["loss/ptx"] if mixing else [])]
    for name in names:
        for other in results[1:]:
            assert other[name] == pytest.approx(results[0][name], rel=1e-4, abs=1e-6), name


def test_ptx_has_its_own_denominator(toy_path: Path) -> None:
    """Twice as many rollouts of the same kind leave the pull of the mixed rows what it was, and so does repeating the rows."""

    def pull(found: list[Group], rows: int, coefficient: float) -> dict[str, torch.Tensor]:
        config = ppo_config(ptx_coefficient=coefficient, max_grad_norm=1e9, whiten_advantages=False)
        made = make(toy_path, config)
        flat = [replace(g, rollouts=tuple(replace(r, grade=replace(r.grade, score=0.0)) for r in g.rollouts)) for g in found]  # type: ignore[type-var,arg-type]
        taken: dict[str, torch.Tensor] = {}
        step = made.step

        def look() -> dict[str, float]:
            taken.update({n: m.grad.clone() for n, m in made.policy.optimizer.masters.items() if m.grad is not None})
            return step()

        made.step = look  # type: ignore[method-assign]
        learnt(made, honest(made, flat), config, Mixed(counting_rows(rows), rows, 3))  # every row once, in some order
        return taken

    one, more = pull(groups()[:1], 3, 1.0), pull(groups(), 3, 1.0)
    twice, doubled = pull(groups(), 3, 2.0), pull(groups(), 6, 1.0)
    assert sum(float(g.abs().sum()) for g in one.values()) > 0.1
    for name in one:
        assert torch.allclose(more[name], one[name], atol=1e-6)
        assert torch.allclose(twice[name], 2 * one[name], atol=1e-6)
    assert doubled.keys() == one.keys()


def test_ptx_keeps_what_the_reward_would_forget(toy_path: Path) -> None:
    """The mixed rows become likelier although the rollouts never show them."""

    def likelihood(coefficient: float) -> float:
        config = ppo_config(ptx_coefficient=coefficient, learning_rate=1e-2)
        made = make(toy_path, config)
        mixed = Mixed(counting_rows(), 8, 3)
        last = 0.0
        for index in range(6):
            last = learnt(made, honest(made, groups()), config, mixed, index=index)["loss/ptx"]
        return last

    assert likelihood(1.0) < likelihood(1e-6) - 0.05


def test_unscored_rollouts_have_no_say(toy_path: Path) -> None:
    found = []
    for extra in ([], [[9, 9, 9]]):
        config = ppo_config(kl=KlConfig(coefficient=0.1))
        made = make(toy_path, config)
        warm(made)
        scores: list[float | None] = [1.0, 0.0, 0.0, *([None] if extra else [])]
        metrics = learnt(made, honest(made, [group("a", PROMPTS[0], [[5, 6, 7], [5, 9], [8, 8], *extra], scores)]), config)
        found.append([metrics[name] for name in ("grad_norm", "grad_norm/critic", "loss/value", "value/mean", "advantage/std")])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_tokens_that_were_not_written_have_no_say(toy_path: Path) -> None:
    """A second turn: what the world said in between earns nothing and costs nothing, but is read."""

    def streams(said: int, written: int) -> tuple[RlRow, int]:
        config = ppo_config(gae_lambda=0.5, whiten_advantages=False, kl=KlConfig(coefficient=0.1))
        made = make(toy_path, config)
        warm(made)
        one = group("a", PROMPTS[0], [[5, said, 7]], [1.0])
        row = one.rollouts[0].rows[0]
        mask = type(row.mask)("i", [*row.mask[:-2], written, 1])
        cut = replace(one, rollouts=(replace(one.rollouts[0], rows=(replace(row, mask=mask),)),))
        rows = episodes([cut], config)
        rows[0].reference = floats([-2.0] * rows[0].trained)
        estimate(made.critic, rows, config, 0.1)
        return rows[0], rows[0].trained

    hidden, count = streams(6, 0)
    assert count == 2 == len(hidden.advantages)
    # two written tokens: A₂ = 1 - V₂, A₁ = V₂ - V₁ + ½·A₂; the KL is 0, as both give -2
    v1, v2 = hidden.values
    assert hidden.advantages == pytest.approx([v2 - v1 + 0.5 * (1 - v2), 1 - v2], abs=1e-6)
    assert streams(6, 1)[1] == 3


def test_whitening_spans_the_round_and_keeps_single_answers_comparable(toy_path: Path) -> None:
    config = ppo_config()
    made = make(toy_path, config)
    warm(made)
    rows = rows_with(made, config, honest(made, groups()))
    values = torch.tensor([a for row in rows for a in row.advantages])
    assert values.mean().item() == pytest.approx(0, abs=1e-5)
    assert values.std(unbiased=False).item() == pytest.approx(1, rel=1e-4)
    plain = rows_with(made, ppo_config(whiten_advantages=False), honest(made, groups()))
    flat = torch.tensor([a for row in plain for a in row.advantages])
    assert torch.allclose((flat - flat.mean()) / flat.std(unbiased=False), values, atol=1e-4)
    assert [list(row.returns) for row in plain] == [list(row.returns) for row in rows]  # the critic hears the rewards' own units


def test_whitened_rewards_have_spread_one_and_their_mean(toy_path: Path) -> None:
    """λ = 1, fresh critic: returns are the rewards still to come. 14 tokens, rewards 1 at the end of 3 rows."""
    config = ppo_config(whiten_rewards=True, gae_lambda=1.0)
    made = make(toy_path, config)
    rows = rows_with(made, config, honest(made, groups()))
    count, mean = 15, 3 / 15
    assert sum(row.trained for row in rows) == count
    spread = math.sqrt(mean * (1 - mean))
    assert rows[0].returns[-1] == pytest.approx((1 - mean) / spread + mean, rel=1e-4)
    assert rows[1].returns[-1] == pytest.approx(-mean / spread + mean, rel=1e-4)


def test_the_kl_is_taken_off_every_token(toy_path: Path) -> None:
    """With λ = 1 and a fresh critic, a token's return is the score minus the KL still to come."""
    config = ppo_config(kl=KlConfig(coefficient=0.5), gae_lambda=1.0, whiten_advantages=False)
    made = make(toy_path, config)
    with torch.no_grad():
        for name, master in made.policy.optimizer.masters.items():
            if "lora_B" in name:
                master.add_(0.05)
    made.policy.optimizer.write_back()
    rows = rows_with(made, config, honest(made, groups()))
    for row in rows:
        divergence = [s - r for s, r in zip(row.sampled, row.reference, strict=True)]
        expected = [row.reward - 0.5 * sum(divergence[t:]) for t in range(row.trained)]
        assert list(row.returns) == pytest.approx(expected, abs=1e-5)
    assert max(abs(s - r) for row in rows for s, r in zip(row.sampled, row.reference, strict=True)) > 1e-3


@pytest.mark.parametrize("form", ["k2_loss", "k3_loss"])
def test_a_kl_in_the_loss_leaves_the_rewards_alone(toy_path: Path, form: str) -> None:
    found = {}
    for coefficient in (0.0, 0.5):
        config = ppo_config(kl=KlConfig(coefficient=coefficient, form=form), gae_lambda=1.0, learning_rate=1e-2)
        made = make(toy_path, config)
        for index in range(2):  # the first round leaves the reference, the second is pulled back
            rows = rows_with(made, config, honest(made, groups()))
            metrics = update(made, rows, config, coefficient, seed=0, index=index)
        found[coefficient] = (metrics, [list(row.returns) for row in rows])
    for _, returns in found.values():
        assert [value for row in returns for value in row] == pytest.approx(
            [r.reward for r in rows for _ in range(r.trained)], abs=1e-6
        )
    assert found[0.5][0]["kl/loss"] > 0 and "kl/loss" not in found[0.0][0]
    assert found[0.5][0]["grad_norm"] != pytest.approx(found[0.0][0]["grad_norm"], rel=1e-3)


def test_an_answer_cut_off_ends_with_its_score_or_goes_on_with_the_value_of_what_stands(toy_path: Path) -> None:
    found = groups()[:1]
    cut = [replace(found[0], rollouts=(replace(found[0].rollouts[0], status="truncated"), *found[0].rollouts[1:]))]
    made = make(toy_path, ppo_config())
    warm(made)
    ended, going_on = (
        rows_with(made, ppo_config(truncation=how, gae_lambda=1.0, whiten_advantages=False), honest(made, cut))
        for how in ("score", "bootstrap")
    )
    assert list(ended[0].returns) == pytest.approx([1.0] * 3)
    # the value at the very end: that of the state before one more token
    tokens = [*PROMPTS[0], 5, 6, 7]
    longer = group("a", [], [[*tokens, 0]], [0.0]).rollouts[0].rows[0]
    with torch.no_grad():
        mask = type(longer.mask)("i", [0] * len(tokens) + [1])
        after = float(made.critic.values(pack([replace(longer, mask=mask)])))
    assert abs(after) > 0.01
    assert list(going_on[0].returns) == pytest.approx([after] * 3, rel=1e-4)
    assert [list(r.returns) for r in going_on[1:]] == [list(r.returns) for r in ended[1:]]  # those ended by themselves


def test_a_step_that_is_not_finite_moves_neither(toy_path: Path) -> None:
    for which in ("policy", "critic"):
        made = make(toy_path, ppo_config())
        before = {name: tensor.clone() for name, tensor in made.state().items()}
        for optimizer, bad in ((made.policy.optimizer, which == "policy"), (made.critic.optimizer, which == "critic")):
            for master in optimizer.masters.values():
                master.grad = torch.full_like(master, math.nan if bad else 1.0)
        with pytest.raises(NonFinite):
            made.step()
        assert all(torch.equal(before[name], tensor) for name, tensor in made.state().items()) and made.version == 0
        optimizers = (made.policy.optimizer, made.critic.optimizer)
        assert all(m.grad is None for optimizer in optimizers for m in optimizer.masters.values())


@pytest.mark.parametrize(("point", "metric"), [("step:value", "loss/value"), ("step:loss", "loss")])
def test_a_loss_that_is_not_finite_ends_the_loop(toy_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, metric: str) -> None:
    monkeypatch.setattr("posttrain.core.faults._passages", {})
    monkeypatch.setenv("POSTTRAIN_FAULT", f"{point}:1=nan")
    config = ppo_config()
    made = make(toy_path, config)
    before = {name: tensor.clone() for name, tensor in made.state().items()}
    with pytest.raises(BrokenStep) as broken:
        learnt(made, honest(made, groups()), config)
    assert math.isnan(broken.value.metrics[metric]) and broken.value.batch is not None
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state().items())


def test_the_state_holds_both_optimizers(toy_path: Path) -> None:
    """Saved after a step and loaded elsewhere, the next step is the same, bit for bit."""
    config = ppo_config(learning_rate=1e-2, critic_learning_rate=1e-2)
    first = make(toy_path, config)
    learnt(first, honest(first, groups()), config)
    saved = {name: tensor.clone() for name, tensor in first.state().items()}
    second = make(toy_path, config)
    second.load_state(saved, first.version)
    assert second.version == second.policy.version == 1
    for made in (first, second):
        learnt(made, honest(made, groups()), config, index=1)
    after = second.state()
    assert all(torch.equal(tensor, after[name]) for name, tensor in first.state().items())
    assert any(not torch.equal(saved[name], tensor) for name, tensor in after.items() if name.startswith("critic/exp_avg"))


class Still:
    """A generator that writes nothing and takes over the weights as the engine does."""

    def __init__(self, made: ActorCritic) -> None:
        self.version, self.view = -1, made.policy.view

    async def update(self, version: int) -> None:
        self.view.refresh()
        self.version = version


def test_the_loop_adapts_the_kl_and_keeps_its_promises(toy_path: Path) -> None:
    config = ppo_config(steps=3, kl=KlConfig(coefficient=0.1, target=1e-6), learning_rate=1e-2, minibatches=2)
    made = make(toy_path, config)

    async def collect(index: int, position: int) -> Collected:
        return Collected(honest(made, groups()), position + 2, {"groups/zero_variance": 0.0})

    steps = steps_of(ppo(made, Still(made), collect, config, seed=0, start=0, state={}))  # type: ignore[arg-type]
    assert made.version == made.policy.version == 6 and len(steps) == 3
    coefficient = 0.1
    for step in steps:
        coefficient = adapt(coefficient, step.metrics["kl/k1"], 1e-6)
        assert step.metrics["kl/coefficient"] == pytest.approx(coefficient) != 0.1
    assert steps[-1].state["kl/coefficient"] == steps[-1].metrics["kl/coefficient"]
    assert all(math.isfinite(value) for step in steps for value in step.metrics.values())
    wanted = {"loss/value", "value/explained_variance", "advantage/std", "kl/k1", "clip/low", "clip/value", "grad_norm/critic"}
    assert wanted <= steps[-1].metrics.keys()

    async def stale(index: int, position: int) -> Collected:
        return Collected(groups(), position + 2, {})  # written with version 0

    with pytest.raises(BrokenStep, match="an update was lost"):
        steps_of(ppo(made, Still(made), stale, config, seed=0, start=0, state={}))  # type: ignore[arg-type]

    async def unscored(index: int, position: int) -> Collected:
        return Collected([group("a", PROMPTS[0], [[5], [6], [7]], [1.0, None, 0.0])], 1, {})

    with pytest.raises(BrokenStep, match=r"1 of 3 samples have no score"):
        steps_of(ppo(made, Still(made), unscored, config, seed=0, start=0, state={}))  # type: ignore[arg-type]


def test_a_sampler_apart_from_the_trainer_ends_the_run(toy_path: Path) -> None:
    config = ppo_config(mismatch_budget=0.01)
    made = make(toy_path, config)
    with pytest.raises(BrokenStep, match="sampler and trainer differ"):
        learnt(made, groups(), config)  # all log-probs recorded as -2


def test_one_sample_a_prompt_is_enough(toy_path: Path) -> None:
    """No group to compare with: the critic is the baseline, and the measure of equal groups is left out."""
    config = ppo_config(samples_per_prompt=1, steps=1)
    made = make(toy_path, config)
    single = [replace(g, rollouts=g.rollouts[:1]) for g in groups()]

    async def collect(index: int, position: int) -> Collected:
        return Collected(honest(made, single), position + 2, {"groups/zero_variance": 1.0})

    step = steps_of(ppo(made, Still(made), collect, config, seed=0, start=0, state={}))[0]  # type: ignore[arg-type]
    assert step.metrics["grad_norm"] > 0 and "groups/zero_variance" not in step.metrics


def test_settings_that_cannot_work_are_refused() -> None:
    for changes, said in (
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"gae_lambda": -0.1}, "gae_lambda is -0.1"),
        ({"value_clip": 0.0}, "value_clip is 0.0"),
        ({"critic_model": "base", "critic_reward_model": "rm"}, "starts from one of them"),
        ({"ptx_coefficient": -1.0, "ptx": [DataSource(source="x")]}, "ptx_coefficient is -1.0"),
        ({"minibatches": 3}, "minibatches is 3"),
    ):
        with pytest.raises(ValueError, match=said):
            ppo_config(**changes)
