"""The Python face on a toy: every method learns what it is for, and what a stage refuses is refused here too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

import posttrain as pt
from posttrain.core.config import CalculatorTool, ToolsEnvironment
from posttrain.core.errors import UserError
from posttrain.core.types import Action, Grade, Observation, StepResult
from posttrain.models.load import Loaded

SETTINGS: dict[str, Any] = {"batch_size": 8, "learning_rate": 1e-2}
ROUNDS: dict[str, Any] = {"prompts_per_step": 4, "samples_per_prompt": 8, "max_tokens": 6, "learning_rate": 1e-2}


def letters(task: pt.Task, answer: str) -> float:
    return sum(c.islower() for c in answer) / max(1, len(answer))


@pytest.fixture
def model(toy: Loaded) -> pt.Model:
    return pt.Model(toy, None)


def questions(count: int) -> list[pt.Task]:
    return [pt.Task(f"t{i}", (pt.Message("user", f"say {i}"),), "x") for i in range(count)]


def preferences(count: int) -> list[pt.Preference]:
    """Letters are better than digits."""
    says = [[(pt.Message("assistant", text),) for text in (chr(97 + i % 26) * 4, str(i % 10) * 4)] for i in range(count)]
    return [pt.Preference((pt.Message("user", f"say {i}"),), tuple(both), (pt.Pair(0, 1),)) for i, both in enumerate(says)]


def test_dpo_learns_from_memory_and_from_a_file_alike(model: pt.Model, tmp_path: Path) -> None:
    history = pt.dpo(model, preferences(24), steps=12, run=tmp_path / "a", **SETTINGS)
    assert history[-1]["accuracy"] > 0.9 > history[0]["accuracy"]
    assert (tmp_path / "a" / "metrics.jsonl").exists()
    with pytest.raises(UserError, match="a is not empty"):
        pt.dpo(model, preferences(4), steps=1, run=tmp_path / "a")


def test_a_reward_model_is_a_grader_and_leaves_the_model_alone(model: pt.Model) -> None:
    before = {name: weight.clone() for name, weight in model.loaded.model.state_dict().items()}
    reward = pt.reward_model(model, preferences(40), steps=12, validation=0.2, **SETTINGS)
    assert all(torch.equal(before[name], weight) for name, weight in model.loaded.model.state_dict().items())
    assert reward.summary["held_out"]["accuracy"]["value"] > 0.8
    good, bad = (asyncio.run(reward(questions(1)[0], text)) for text in ("abcd", "1234"))
    assert good > bad
    found = pt.evaluate(model, questions(2), graders=[reward])
    assert all(record.score is not None for record in found.records)


def test_ppo_learns(model: pt.Model) -> None:
    history = pt.ppo(model, questions(16), graders=[letters], steps=20, minibatches=2, critic_learning_rate=1e-2, **ROUNDS)
    rewards = [row["reward/mean"] for row in history]
    assert fmean(rewards[-4:]) > fmean(rewards[:4]) + 0.1, rewards


def test_distill_moves_the_student_to_the_teacher(model: pt.Model, toy_path: Path) -> None:
    teacher = pt.load(str(toy_path), lora=None)
    pt.dpo(teacher, preferences(24), steps=12, **SETTINGS)
    history = pt.distill(model, teacher, questions(16), steps=12, **ROUNDS)
    assert history[-1]["kl/teacher"] < 0.5 * history[0]["kl/teacher"]


def test_best_of_n_gives_rows_to_learn_from(model: pt.Model) -> None:
    tasks = questions(8)
    rows = pt.best_of_n(model, tasks, graders=[letters], samples=8, max_tokens=6, passed=False, finished=False)
    one = pt.evaluate(model, tasks, graders=[letters])
    chosen = fmean(letters(tasks[0], row.messages[-1].content) for row in rows)
    assert len(rows) == 8 and chosen > fmean(record.score or 0.0 for record in one.records)
    assert pt.sft(model, rows, steps=4, batch_size=4, learning_rate=1e-2)[-1]["loss"] > 0


class Echo:
    """Two turns: it asks for letters once more, and its state is what it was told."""

    def __init__(self, task: pt.Task) -> None:
        self.said: list[str] = []

    tools = ()

    async def reset(self, task: pt.Task) -> Observation:
        return Observation(task.messages)

    async def step(self, action: Action) -> StepResult:
        self.said.append(action.message.content)
        grade = Grade(letters(questions(1)[0], "".join(self.said)))
        again = () if len(self.said) == 2 else (pt.Message("user", "more"),)
        return StepResult(Observation(again), terminated=len(self.said) == 2, grade=grade)

    async def close(self) -> None:
        """It holds nothing."""


def test_grpo_learns_in_an_environment_of_the_script(model: pt.Model) -> None:
    before = pt.evaluate(model, questions(8), graders=(), environment=Echo)
    history = pt.grpo(model, questions(16), environment=Echo, steps=10, **ROUNDS)
    rewards = [row["reward/mean"] for row in history]
    assert fmean(rewards[-3:]) > fmean(rewards[:3]) + 0.1, rewards
    assert all(row["episode/turns"] >= 1 for row in history)
    assert {record.ending for record in before.records} <= {"terminated", "length"}


def test_an_environment_with_tools_and_a_grader(model: pt.Model) -> None:
    tools = ToolsEnvironment(tools=[CalculatorTool()], max_turns=2, max_episode_tokens=2048)
    history = pt.grpo(model, questions(4), graders=[letters], environment=tools, steps=1, **ROUNDS)
    assert "reward/letters" in history[0] and history[0]["episode/turns"] >= 1
    with pytest.raises(ValueError, match="graders is empty"):
        pt.grpo(model, questions(4), environment=tools, steps=1, **ROUNDS)
