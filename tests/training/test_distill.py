"""The student becomes its teacher, whatever the divergence; and nothing about memory changes a step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from posttrain.core.config import DataSource, DistillConfig, TaskSource
from posttrain.core.types import Group, TokenRow, floats, ints
from posttrain.models.heads import hidden_states
from posttrain.models.load import Loaded, load
from posttrain.models.packing import pack
from posttrain.training.distill import distill, given, learn, on_own_samples, written
from posttrain.training.driver import BrokenStep, Step
from posttrain.training.policy import Policy
from posttrain.training.rl_step import RlRow
from posttrain.training.rounds import Collected
from tests.training.helpers import LORA, counting_rows, group, steps_of
from tests.training.test_grpo import Still

MODES = [(over, name) for over in ("vocabulary", "top_k") for name in ("reverse_kl", "forward_kl", "jsd")]
MODES.append(("sampled", "reverse_kl"))


def distill_config(**changes: object) -> DistillConfig:
    settings = {
        "teacher": "t",
        "tasks": [TaskSource(source="x")],
        "lora": None,
        "learning_rate": 3e-3,
        "steps": 4,
        "top_k": 20,
        "max_tokens": 8,
        "mismatch_budget": 5.0,
    }
    return DistillConfig(**{**settings, **changes})  # type: ignore[arg-type]


def load_sharp(path: Path) -> Loaded:
    """The toy with a louder head, so that it has opinions."""
    found = load(str(path), dtype=torch.float32)
    with torch.no_grad():
        found.model.get_input_embeddings().weight.mul_(8)
    return found


def pair(toy_path: Path, config: DistillConfig) -> tuple[Policy, PreTrainedModel]:
    """A student, and a teacher with the same tokens and embeddings but other opinions about them."""
    teacher = load_sharp(toy_path).model.requires_grad_(False)
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in teacher.named_parameters():
            if "proj" in name:
                p.add_(0.15 * torch.randn(p.shape, generator=source))
    return Policy(load_sharp(toy_path), config, total_steps=config.steps, seed=0), teacher


def rows_of(count: int = 24, *, longest: int = 6) -> list[RlRow]:
    """Rows over the bytes, three to a prompt."""
    source = random.Random(0)
    rows = []
    for i in range(count):
        prompt = [(7 * (i // 3) + j) % 200 for j in range(12)]
        answer = [source.randrange(200) for _ in range(min(longest, 3 + i % 4))]
        rows.append(RlRow(str(i // 3), i % 3, i // 3, row(prompt, answer), 0.0))
    return rows


def row(prompt: Sequence[int], answer: Sequence[int], logprob: float = -5.5) -> TokenRow:
    before, after = len(prompt), len(answer)
    mask, logprobs = [0] * before + [1] * after, [0.0] * before + [logprob] * after
    return TokenRow(ints([*prompt, *answer]), ints(mask), floats(logprobs), ints([0] * (before + after)))


@torch.no_grad()
def drawn(made: Policy, rows: list[RlRow], seed: int) -> list[RlRow]:
    """The same prompts with one token each, drawn from the student, and its true log-probability."""
    batch = pack([each.row for each in rows])
    logprobs = (hidden_states(made.model, batch) @ made.model.get_output_embeddings().weight.T).log_softmax(-1)
    tokens = torch.multinomial(logprobs.exp(), 1, generator=torch.Generator().manual_seed(seed))
    found = zip(rows, tokens[:, 0].tolist(), logprobs.gather(1, tokens)[:, 0].tolist(), strict=True)
    return [replace(each, row=row(each.row.tokens[:12], [token], logprob)) for each, token, logprob in found]


@pytest.mark.parametrize(("over", "name"), MODES)
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_the_student_moves_towards_its_teacher(toy_path: Path, over: str, name: str, lora: object) -> None:
    config = distill_config(over=over, divergence=name, lora=lora, learning_rate=3e-3 if lora is None else 2e-2)
    made, teacher = pair(toy_path, config)
    rows = rows_of(96 if over == "sampled" else 24, longest=1 if over == "sampled" else 6)
    found = []
    for step in range(12):
        batch = drawn(made, rows, step) if over == "sampled" else rows
        found.append(learn(made, teacher, batch, config, step, own=over == "sampled"))
    assert found[-1]["kl/teacher"] < 0.8 * found[0]["kl/teacher"]
    if lora is None and over == "vocabulary":
        assert found[-1]["agreement"] > found[0]["agreement"]


@pytest.mark.parametrize(("over", "name"), MODES)
def test_micro_batches_do_not_change_the_step(toy_path: Path, over: str, name: str) -> None:
    results = []
    for budget in (10, 70, 4096):
        config = distill_config(over=over, divergence=name, micro_batch_tokens=budget)
        made, teacher = pair(toy_path, config)
        metrics = learn(made, teacher, rows_of(), config, 0, own=True)
        results.append((metrics, {key: p.detach().clone() for key, p in made.model.named_parameters()}))
    for metrics, weights in results[1:]:
        for key in ("loss", "grad_norm", "kl/teacher", "entropy", "agreement", "gap/mean"):
            assert metrics[key] == pytest.approx(results[0][0][key], rel=1e-4), key
        assert all(torch.allclose(weights[key], value, atol=1e-4) for key, value in results[0][1].items())


def test_gradients_of_micro_batches_add_up_exactly(toy_path: Path) -> None:
    """Before the optimizer, which hides scale: the accumulated gradients themselves."""
    found = []
    for budget in (10, 4096):
        config = distill_config(divergence="jsd", micro_batch_tokens=budget)
        made, teacher = pair(toy_path, config)
        made.step = dict  # type: ignore[method-assign]
        learn(made, teacher, rows_of(), config, 0, own=False)
        found.append({key: master.grad.clone() for key, master in made.optimizer.masters.items() if master.grad is not None})
    assert found[0] and all(torch.allclose(found[0][key], value, atol=1e-6, rtol=1e-4) for key, value in found[1].items())


def test_a_token_nobody_wrote_is_not_learnt(toy_path: Path) -> None:
    def loss(last: int, learnt: int) -> float:
        config = distill_config()
        made, teacher = pair(toy_path, config)
        rows = [replace(each, row=longer(each.row, last, learnt)) for each in rows_of(6)]
        return learn(made, teacher, rows, config, 0, own=False)["loss"]  # type: ignore[arg-type]

    def longer(each: TokenRow, last: int, learnt: int) -> TokenRow:
        """Two more tokens; what is scored at the second depends on the first."""
        return TokenRow(
            each.tokens + ints([last, 9]),
            each.mask + ints([0, learnt]),
            each.logprobs + floats([0, 0]),
            each.versions + ints([0, 0]),
        )

    assert loss(5, 0) == pytest.approx(loss(150, 0), rel=1e-6)
    assert abs(loss(5, 1) - loss(150, 1)) > 1e-4


def test_the_teacher_never_changes_and_a_student_that_is_its_teacher_stays(toy_path: Path) -> None:
    config = distill_config()
    made = Policy(load(str(toy_path), dtype=torch.float32), config, total_steps=4, seed=0)
    teacher = load(str(toy_path), dtype=torch.float32).model.requires_grad_(False)
    before = {key: p.clone() for key, p in teacher.named_parameters()}
    metrics = learn(made, teacher, rows_of(), config, 0, own=False)
    assert metrics["kl/teacher"] == pytest.approx(0, abs=1e-6) and metrics["agreement"] == 1 and metrics["grad_norm"] < 1e-5
    assert all(torch.equal(before[key], p) for key, p in teacher.named_parameters())


def loop(toy_path: Path, config: DistillConfig, groups: list[Group] | None = None) -> tuple[list[Step], list[int]]:
    made, teacher = pair(toy_path, config)
    asked: list[int] = []

    async def collect(index: int, position: int) -> Collected:
        asked.append(position)
        versions = [group("a", list(range(60, 72)), [[5, 6, 7], [5, 9]], [None, None])] if groups is None else groups
        return Collected([at_version(each, made.version) for each in versions], position + 2, {"time/generate": 0.0})

    work = distill(made, teacher, Still(made), collect, counting_rows(), config, seed=0, start=0, state={})  # type: ignore[arg-type]
    return steps_of(work), asked


def at_version(each: Group, version: int) -> Group:
    rollouts = [
        replace(r, rows=tuple(replace(part, versions=ints(version if m else -1 for m in part.mask)) for part in r.rows))
        for r in each.rollouts
    ]
    return replace(each, rollouts=tuple(rollouts))


def test_a_share_of_the_steps_is_on_what_others_wrote(toy_path: Path) -> None:
    config = distill_config(on_policy=0.5, data=[DataSource(source="x")], steps=12, batch_size=4)
    steps, asked = loop(toy_path, config)
    own = [step.metrics["on_policy"] for step in steps]
    assert 0 < sum(own) < 12
    assert asked == [2 * i for i in range(int(sum(own)))]
    assert steps[-1].state == {"position": 2 * sum(own), "read": 4 * (12 - sum(own))}
    assert all(bool(step.groups) == bool(step.metrics["on_policy"]) == ("gap/mean" in step.metrics) for step in steps)
    assert 0.2 < sum(on_own_samples(0.3, 7, i) for i in range(1000)) / 1000 < 0.4
    assert all(on_own_samples(1.0, 0, i) and not on_own_samples(0.0, 0, i) for i in range(50))


def test_what_others_wrote_is_read_in_a_walk_that_goes_on() -> None:
    rows = counting_rows()
    walk = [each.row.tokens for each in given(rows, 0, 48, seed=3)]
    assert [each.row.tokens for each in given(rows, 16, 8, seed=3)] == walk[16:24]
    assert sorted(map(list, walk[:24])) == sorted(list(tokens) for tokens, _ in rows.rows)


def test_failed_rollouts_teach_nothing_and_nothing_at_all_ends_the_run(toy_path: Path) -> None:
    good = group("a", list(range(60, 72)), [[5, 6, 7], [5, 9]], [None, None])
    half = replace(good, rollouts=(good.rollouts[0], replace(good.rollouts[1], status="failed")))
    assert len(written([half])) == 1
    none = replace(good, rollouts=tuple(replace(each, status="failed", rows=()) for each in good.rollouts))
    with pytest.raises(BrokenStep, match="wrote nothing"):
        loop(toy_path, distill_config(), [none])


def test_a_sampler_with_other_weights_ends_the_run(toy_path: Path) -> None:
    with pytest.raises(BrokenStep, match="sampler and trainer differ"):
        loop(toy_path, distill_config(mismatch_budget=0.01))


def test_a_number_that_is_not_finite_never_reaches_the_weights(toy_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posttrain.core.faults._passages", {})
    monkeypatch.setenv("POSTTRAIN_FAULT", "step:loss=nan")
    config = distill_config()
    made, teacher = pair(toy_path, config)
    before = {key: p.clone() for key, p in made.model.named_parameters()}
    with pytest.raises(BrokenStep, match="not finite"):
        learn(made, teacher, rows_of(), config, 0, own=False)
    assert all(torch.equal(before[key], p) for key, p in made.model.named_parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beta": 1.0}, "beta is 1.0"),
        ({"tasks": []}, "tasks is empty"),
        ({"on_policy": 0.5}, "data is empty"),
        ({"data": [DataSource(source="x")]}, "never used"),
        ({"over": "sampled", "divergence": "jsd"}, "over is 'sampled'"),
        ({"on_policy": 1.5}, "on_policy is 1.5"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        distill_config(**changes)
