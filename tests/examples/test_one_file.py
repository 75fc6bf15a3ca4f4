"""The one-file examples as oracles: written with padding, autograd and nothing of ours, they must give the library's losses."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from posttrain.core.types import Group
from posttrain.models.load import Loaded
from posttrain.training.grpo import method_of, training_rows
from posttrain.training.rl_step import add_scores, update
from posttrain.training.sft import Encoded, train_step
from tests.training.helpers import grpo_config, policy, rollout, sft_config, task

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RATE = 3e-3
# Rows of several lengths, a loss mask with a gap (two assistant turns), and a row of one learnt token.
ROWS = [
    ([60, 61, 62, 63, 64, 65, 66, 67], [0, 0, 1, 1, 0, 0, 1, 1]),
    ([70, 71, 72], [0, 0, 1]),
    ([60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70], [0] * 9 + [1] * 2),
    ([80, 81, 82, 83, 84], [0, 1, 1, 1, 1]),
]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def plain(path: Path) -> Any:
    """The toy as transformers loads it: its own attention, fp32."""
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def test_sft_losses_over_several_steps(toy_path: Path, toy: Loaded) -> None:
    """Equal before, and after each update: so the gradients, the clipping and AdamW agree too."""
    batches = [ROWS[:2], ROWS[2:], ROWS, ROWS[1:]]
    config = sft_config(lora=None, learning_rate=RATE, micro_batch_tokens=16)  # several micro-batches a step
    made = policy(toy, config)
    ours = [train_step(made, [Encoded(*row) for row in rows], config, i)["loss"] for i, rows in enumerate(batches)]
    theirs = example("one_file_sft").losses(plain(toy_path), batches, learning_rate=RATE)
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours[2] < ours[0] - 0.01  # the updates did something, so later losses depend on them


def test_sft_loss_ignores_what_the_mask_hides(toy_path: Path) -> None:
    one_file = example("one_file_sft")
    model = plain(toy_path)
    tokens, mask = ROWS[3]
    before = one_file.loss(model, [(tokens, mask), ([1, 2, 3], [0, 0, 0])])
    assert before.item() == pytest.approx(one_file.loss(model, [(tokens, mask)]).item(), rel=1e-6)


def test_grpo_losses_over_inner_epochs(toy_path: Path, toy: Loaded) -> None:
    """Three steps on one round: the ratio is 1 in the first and leaves the clip range later."""
    one_file = example("one_file_grpo")
    answers = [[[5, 6, 7], [5, 9], [8, 8, 8, 8]], [[3], [4, 4], [5, 5, 5]]]
    scores = [[1.0, 0.0, 0.25], [0.0, 1.0, 1.0]]
    prompts = [list(range(60, 80)), list(range(100, 115))]
    model = plain(toy_path)

    def sampled(prompt: list[int], answer: list[int]) -> list[float]:
        tokens = torch.tensor([prompt + answer])
        with torch.no_grad():
            return one_file.token_logprobs(model, tokens, torch.ones_like(tokens))[0, len(prompt) - 1 :].tolist()

    groups, found = [], []
    for name, prompt, texts, rewards in zip("ab", prompts, answers, scores, strict=True):
        logprobs = [sampled(prompt, text) for text in texts]
        groups.append(
            [
                one_file.Sample(prompt + text, [0] * len(prompt) + [1] * len(text), [0.0] * len(prompt) + values, reward)
                for text, values, reward in zip(texts, logprobs, rewards, strict=True)
            ]
        )
        asked = task(name)
        written = zip(texts, logprobs, rewards, strict=True)
        rollouts = [rollout(asked, i, prompt, text, values, reward) for i, (text, values, reward) in enumerate(written)]
        found.append(Group(asked, tuple(rollouts)))
    theirs = one_file.losses(model, [groups], learning_rate=RATE, epochs=3)

    config = grpo_config(algorithm="dapo", clip_high=0.2, lora=None, learning_rate=RATE, epochs=3, micro_batch_tokens=40)
    method = method_of(config)
    made = policy(toy, config)
    rows = training_rows(found, config, method)
    add_scores(made, rows, config, method, 0.0)
    metrics = update(made, rows, config, method, 0.0, seed=0, index=0)
    assert metrics["loss"] == pytest.approx(sum(theirs), rel=1e-4)
    assert metrics["clip/high"] > 0 and metrics["clip/low"] > 0
    assert len(set(theirs)) == 3


def test_advantages_by_hand() -> None:
    one_file = example("one_file_grpo")
    made = [one_file.Sample([1], [1], [0.0], reward) for reward in (1.0, 0.0, 0.0, 1.0)]
    assert one_file.advantages(made) == pytest.approx([0.866, -0.866, -0.866, 0.866], abs=1e-3)  # ±0.5 / sqrt(1/3)
    assert one_file.advantages(made[:1] + made[3:]) == [0.0, 0.0]


@pytest.mark.parametrize("name", ["one_file_sft", "one_file_grpo"])
def test_the_scripts_run(name: str, toy_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--batch", "2"] if name == "one_file_sft" else ["--questions", "1", "--samples", "2", "--longest", "4"]
    monkeypatch.setattr(sys, "argv", [name, "--model", str(toy_path), "--steps", "1", *sizes])
    example(name).main()
    shown = capsys.readouterr().out
    assert "held-out accuracy before" in shown and "step" in shown and "held-out accuracy after" in shown
