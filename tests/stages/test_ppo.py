"""ppo as a stage: killed and run again it ends in the same bytes, it learns, and what it cannot use is said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from posttrain import chat
from posttrain.core.config import LoraConfig
from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Message, Rollout, Task
from posttrain.models.load import load
from posttrain.models.lora import adapters
from posttrain.models.packing import pack
from posttrain.models.reward_model import new_reward_model, save_reward_model
from posttrain.models.toy import make_toy
from posttrain.records.metrics import read_metrics
from posttrain.records.summary import read_json
from posttrain.stages.parts import sampler
from posttrain.stages.ppo import critic_of
from posttrain.stages.rounds import Rounds
from posttrain.training.policy import Policy
from posttrain.training.ppo import ppo
from tests.cli.conftest import handlers, posttrain  # noqa: F401 - fixtures
from tests.stages.helpers import fingerprint, run, write_recipe
from tests.training.helpers import LORA, steps_of
from tests.training.test_ppo import PROMPTS, actor_critic, ppo_config

RECIPE = """
name: toy
source: a test
tradeoff: none
model: ./model
seed: 7
stages:
  - {id: start, kind: evaluate, model: base, suites: {s: {source: ./tasks.jsonl}}, graders: &g [{kind: function, path: "./grader.py:letters"}], sampling: {max_tokens: 6}}
  - id: rl
    kind: ppo
    model: base
    tasks: ./tasks.jsonl
    graders: *g
    steps: 5
    prompts_per_step: 4
    samples_per_prompt: 2
    minibatches: 2
    max_tokens: 6
    checkpoint_every: 2
    learning_rate: 1e-2
    critic_learning_rate: 1e-2
    kl: {coefficient: 0.02, target: 0.05}
    ptx: ./train.jsonl
    ptx_batch_size: 4
    ptx_coefficient: 0.1
"""  # noqa: E501 - a stage a line


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_recipe(tmp_path_factory.mktemp("ppo"))
    path.write_text(RECIPE)
    return path


def state(root: Path) -> dict[str, str]:
    """The fingerprint, and the last checkpoint, which holds both optimizers."""
    (last,) = root.glob("rl/checkpoints/*/tensors.safetensors")
    return {**fingerprint(root), "checkpoint": f"{last.parent.name} {hashlib.sha256(last.read_bytes()).hexdigest()}"}


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    runs = tmp_path_factory.mktemp("undisturbed")
    done = run(recipe, runs)
    assert done.returncode == 0, done.stderr
    return runs / "toy", state(runs / "toy")


def test_it_leaves_what_it_promises(undisturbed: tuple[Path, dict[str, str]]) -> None:
    root, _ = undisturbed
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors", "manifest.json", "rollouts/step-000004.parquet"):
        assert (root / "rl" / name).exists(), name
    summary = read_json(root / "rl" / "result.json")["summary"]
    assert summary["ptx"]["rows"] == 20 and summary["steps"] == 5
    last = read_metrics(root / "rl" / "metrics.jsonl")[-1]
    assert {"loss/value", "loss/ptx", "value/explained_variance", "kl/k1", "grad_norm/critic"} <= last.keys()


def test_killed_between_checkpoints_and_run_again(
    recipe: Path,
    undisturbed: tuple[Path, dict[str, str]],
    tmp_path: Path,
    posttrain: Callable,  # noqa: F811
) -> None:
    killed = run(recipe, tmp_path / "runs", fault="step:done:4=kill")
    assert killed.returncode == -9, killed.stderr
    again = posttrain("run", str(recipe), "--runs", str(tmp_path / "runs"))
    assert again.code == 0, again.err
    assert state(tmp_path / "runs" / "toy") == undisturbed[1]


async def letters(task: Task, rollout: Rollout) -> Grade:
    """Share of the answer that is a lower-case letter."""
    return Grade(sum(c.islower() for c in rollout.text) / max(1, len(rollout.text)))


def test_the_reward_rises_and_the_critic_follows(toy_path: Path) -> None:
    """With the real sampler: a random model learns to write letters, from 1 in 8 bytes to every second."""
    config = ppo_config(
        lora=None, critic_lora=None, steps=20, prompts_per_step=8, samples_per_prompt=8, minibatches=2, max_tokens=6,
        learning_rate=3e-3, critic_learning_rate=3e-3,
    )  # fmt: skip
    loaded = load(str(toy_path), dtype=torch.float32)
    made = actor_critic(loaded, config, total=config.updates)
    renderer = chat.renderer(loaded.tokenizer)
    engine = sampler(made.policy.view, renderer)
    tasks = [Task(str(i), (Message("user", f"say {i}"),)) for i in range(16)]
    source = Rounds(config, tasks, engine, renderer, letters, 5)
    found = [step.metrics for step in steps_of(ppo(made, engine, source.collect, config, seed=0, start=0, state={}))]
    assert found[0]["reward/mean"] < 0.2 and found[-1]["reward/mean"] > 0.4
    assert abs(found[-1]["value/mean"] - found[-1]["return/mean"]) < 0.1 < found[-1]["return/mean"]
    assert found[-1]["value/explained_variance"] > found[0]["value/explained_variance"] + 0.02


def test_where_a_critic_starts(toy_path: Path, tmp_path: Path) -> None:
    """From the policy, from another model, or from a reward model whose head it keeps; its frozen weights are shared only in
    the first case."""
    other = make_toy(tmp_path / "other", size="tiny", seed=5)
    reward = new_reward_model(load(str(other), dtype=torch.float32), LoraConfig(rank=4), members=1, ensemble="adapters", seed=1)
    save_reward_model(reward, tmp_path / "rm", base=str(other))
    references = {"other": str(other), "rm": str(tmp_path / "rm")}
    row = [*PROMPTS[0], 5, 6]
    batch = pack([type("Row", (), {"tokens": row, "mask": [0] * 20 + [1, 1]})()])
    values = {}
    for name, settings in {"policy": {}, "model": {"critic_model": "other"}, "rm": {"critic_reward_model": "rm"}}.items():
        for lora in (LORA, None):
            config = ppo_config(critic_lora=lora, **settings)
            policy = Policy(load(str(toy_path), dtype=torch.float32), config, total_steps=1, seed=0)
            critic = critic_of(policy, config, references, 3)
            frozen = {id(p) for p in policy.model.parameters() if not p.requires_grad}
            shared = frozen & {id(p) for p in critic.body.parameters()}
            assert bool(shared) == (name == "policy" and lora is not None)
            assert bool(adapters(critic.body)) == (lora is not None)
            with torch.no_grad():
                values[name, lora is None] = critic.values(batch)
            critic.values(batch).sum().backward()
            assert critic.optimizer.norm() > 0
    assert values["policy", False].abs().max() == 0 == values["model", False].abs().max()
    with torch.no_grad():
        expected = reward.members[0]([row[:20], row[:21]])[:, 0]
    assert torch.allclose(values["rm", False], expected, atol=1e-4) and expected.abs().max() > 1e-3
    assert torch.allclose(values["rm", True], expected, atol=1e-4)


def test_a_critic_that_reads_other_tokens_is_refused(toy_path: Path, tmp_path: Path) -> None:
    other = make_toy(tmp_path / "other", size="tiny")
    settings = json.loads((other / "tokenizer.json").read_text())
    vocabulary = settings["model"]["vocab"]
    one, two = list(vocabulary)[:2]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (other / "tokenizer.json").write_text(json.dumps(settings))
    config = ppo_config(critic_model="other")
    policy = Policy(load(str(toy_path), dtype=torch.float32), config, total_steps=1, seed=0)
    with pytest.raises(UserError, match="critic_model 'other' has another tokenizer"):
        critic_of(policy, config, {"other": str(other)}, 3)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("minibatches: 2", "minibatchs: 2", "recipe.yaml:16: stages[1].minibatchs is not a setting of kind 'ppo'"),
        ("minibatches: 2", "gae_lambda: 2", "recipe.yaml:16: stages[1].gae_lambda is 2"),
        ("minibatches: 2", "critic_model: gone", "recipe.yaml:16: model 'gone' is neither a stage"),
        ("minibatches: 2", "critic_model: ./gone", "gone is not there"),
        (
            "minibatches: 2",
            "critic_reward_model: start",
            "recipe.yaml:16: stages[1].critic_reward_model is 'start', a stage of kind 'evaluate'",
        ),
        ("minibatches: 2", "truncation: never", "recipe.yaml:16: stages[1].truncation is 'never'"),
        ("ptx: ./train.jsonl", "ptx: ./gone.jsonl", "gone.jsonl"),
        ("ptx: ./train.jsonl", 'ptx: ["builtin:arithmatic"]', "there is no built-in set 'arithmatic'. Did you mean arithmetic?"),
    ],
)
def test_wrong_settings_name_their_place(
    posttrain: Callable,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    said: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = write_recipe(tmp_path)
    assert old in RECIPE
    recipe.write_text(RECIPE.lstrip().replace(old, new))
    for command in ("check", "run"):
        found = posttrain(command, "recipe.yaml")
        assert found.code == 2 and found.err.startswith("error: ") and said in found.err, found
        assert "Traceback" not in found.err and not (tmp_path / "runs").exists()


def test_a_reward_model_gives_the_reward_and_starts_the_critic(
    posttrain: Callable,  # noqa: F811
    tmp_path: Path,
) -> None:
    """InstructGPT's arrangement, from a recipe: scored by a reward model, valued by a critic that begins as it."""
    recipe = write_recipe(tmp_path)
    body = load(str(tmp_path / "model"), dtype=torch.float32)
    reward = new_reward_model(body, LoraConfig(rank=4), members=1, ensemble="adapters", seed=1)
    save_reward_model(reward, tmp_path / "rm", base=str(tmp_path / "model"))
    stage = RECIPE.split("  - id: rl\n")[1]
    judged = stage.replace("graders: *g", "graders: [{kind: reward_model, model: ./rm, normalise: false}]")
    judged = judged.replace("steps: 5", "steps: 2").replace("ptx_batch_size", "critic_reward_model: ./rm\n    ptx_batch_size")
    recipe.write_text(RECIPE.lstrip().replace(stage, judged))
    found = posttrain("run", "recipe.yaml")
    assert found.code == 0, found.err
    steps = read_metrics(tmp_path / "runs" / "toy" / "rl" / "metrics.jsonl")
    assert len(steps) == 2 and steps[0]["rollouts/unscored"] == 0 and "passed" not in steps[0]
    assert steps[0]["value/mean"] != 0  # the head is the reward model's, not zero
    assert abs(steps[0]["reward/mean"]) > 0
