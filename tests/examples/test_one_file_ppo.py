"""examples/one_file_ppo.py as an oracle: padding, autograd, loops over tokens and nothing of ours give the library's numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from posttrain.core.config import KlConfig
from posttrain.core.types import Group
from posttrain.models.load import Loaded
from posttrain.training.ppo import episodes, estimate, update
from posttrain.training.rl_step import score_rows
from tests.examples.test_one_file import example, plain
from tests.training.helpers import rollout, task
from tests.training.test_ppo import actor_critic, ppo_config

RATE, CRITIC_RATE = 3e-3, 1e-3
PROMPTS = [list(range(60, 80)), list(range(100, 115))]
ANSWERS = [[[5, 6, 7], [5, 9]], [[3], [4, 4, 8, 9]]]
SCORES = [[1.0, 0.0], [0.25, 1.0]]


def samples_and_groups(one_file: Any, model: Any) -> tuple[list[Any], list[Group]]:
    """The same answers for both, with log-probabilities of a policy that has left its reference."""
    samples, groups = [], []
    for name, prompt, texts, rewards in zip("ab", PROMPTS, ANSWERS, SCORES, strict=True):
        rollouts = []
        for i, (text, reward) in enumerate(zip(texts, rewards, strict=True)):
            tokens = torch.tensor([prompt + text])
            with torch.no_grad():
                values = one_file.token_logprobs(model, tokens, torch.ones_like(tokens))[0, len(prompt) - 1 :].tolist()
            written = [0] * len(prompt) + [1] * len(text)
            samples.append(one_file.Sample(prompt + text, written, [0.0] * len(prompt) + values, reward))
            rollouts.append(rollout(task(name), i, prompt, text, values, reward))
        groups.append(Group(task(name), tuple(rollouts)))
    return samples, groups


def moved(model: Any) -> Any:
    """The model some way from where it started, so that the KL is not 0."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def test_values_advantages_and_losses_over_inner_epochs(toy_path: Path, toy: Loaded) -> None:
    """A warmed critic, a policy away from its reference, three epochs on one round: every number of both is equal."""
    one_file = example("one_file_ppo")
    config = ppo_config(
        lora=None,
        critic_lora=None,
        learning_rate=RATE,
        critic_learning_rate=CRITIC_RATE,
        epochs=3,
        minibatches=1,
        kl=KlConfig(coefficient=0.3),
        micro_batch_tokens=40,  # several micro-batches a step
    )
    trained = actor_critic(toy, config, total=3)
    reference, model = plain(toy_path), moved(plain(toy_path))
    with torch.no_grad():
        for (name, ours), (other, theirs) in zip(trained.policy.model.named_parameters(), model.named_parameters(), strict=True):
            assert name == other
            trained.policy.optimizer.masters[name].copy_(theirs)
            ours.copy_(theirs)
        critic = one_file.Critic(reference)
        head = 0.3 * torch.randn(critic.head.weight.shape, generator=torch.Generator().manual_seed(1))
        critic.head.weight.copy_(head)
        trained.critic.optimizer.masters["head.weight"].copy_(head)
        trained.critic.head.weight.copy_(head)
    samples, groups = samples_and_groups(one_file, model)

    made = one_file.estimate(model, reference, critic, samples, kl=0.3)
    rows = episodes(groups, config)
    scores = score_rows(trained.policy, rows, config, 0.3)
    estimate(trained.critic, rows, config, 0.3)
    for row, b in zip(rows, range(len(samples)), strict=True):
        written = made.written[b]
        assert list(row.values) == pytest.approx(made.values[b][written].tolist(), abs=1e-5)
        assert list(row.returns) == pytest.approx(made.returns[b][written].tolist(), abs=1e-5)
        assert row.advantages == pytest.approx(made.advantages[b][written].tolist(), abs=1e-4)
    assert abs(scores["kl/k1"]) > 1e-3

    steps = one_file.losses(model, reference, critic, [samples], learning_rate=RATE, critic_rate=CRITIC_RATE, epochs=3, kl=0.3)
    metrics = update(trained, rows, config, 0.3, seed=0, index=0)
    assert metrics["loss"] == pytest.approx(sum(p for p, _ in steps), rel=1e-4)
    assert metrics["loss/value"] == pytest.approx(sum(v for _, v in steps) / 3, rel=1e-4)
    assert metrics["clip/high"] + metrics["clip/low"] > 0 and metrics["clip/value"] > 0
    assert len(set(steps)) == 3


def test_the_script_runs(toy_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--questions", "1", "--samples", "2", "--longest", "4", "--steps", "1"]
    monkeypatch.setattr(sys, "argv", ["one_file_ppo", "--model", str(toy_path), *sizes])
    example("one_file_ppo").main()
    shown = capsys.readouterr().out
    assert "held-out accuracy before" in shown and "step" in shown and "held-out accuracy after" in shown
