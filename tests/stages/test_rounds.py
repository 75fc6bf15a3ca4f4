"""Drawing tasks for a round: a fixed walk, and groups without signal replaced by fresh ones."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence

from posttrain.core.types import Completion, Grade, Message, Rollout, Sampling, Task, floats, ints
from posttrain.stages.rounds import Rounds
from posttrain.training.rounds import Collected, no_signal
from tests.training.helpers import grpo_config


class Echo:
    """Writes one token, the low byte of its seed."""

    version = 0

    async def generate(self, prompt: array[int], sampling: Sampling, *, seed: int) -> Completion:
        return Completion(ints([seed % 256]), floats([-1.0]), ints([0]), chr(65 + seed % 26), "stop")

    async def update(self, version: int) -> None: ...


class Plain:
    def prompt(self, messages: Sequence[Message]) -> array[int]:
        return ints([1, 2, 3])

    def parse(self, text: str) -> Message:
        return Message("assistant", text)


async def mostly_flat(task: Task, rollout: Rollout) -> Grade:
    """Only every third task tells its samples apart."""
    return Grade(float(rollout.sample) if int(task.id) % 3 == 0 else 1.0)


def collected(algorithm: str, *, count: int = 30, position: int = 0, step: int = 0, wanted: int = 4) -> Collected:
    config = grpo_config(algorithm=algorithm, prompts_per_step=wanted, samples_per_prompt=2, max_rounds=10)
    tasks = [Task(str(i), (Message("user", "?"),)) for i in range(count)]
    rounds = Rounds(config, tasks, Echo(), Plain(), mostly_flat, seed=5)
    return asyncio.run(rounds.collect(step, position))


def test_dynamic_sampling_replaces_groups_without_signal() -> None:
    plain, dynamic = collected("grpo"), collected("dapo")
    assert any(no_signal(group) for group in plain.groups)
    assert not any(no_signal(group) for group in dynamic.groups)
    assert len(dynamic.groups) == 4 and dynamic.position > plain.position == 4
    assert 0 < dynamic.metrics["groups/zero_variance"] < 1


def test_the_walk_goes_on_where_the_last_round_ended() -> None:
    first = collected("grpo")
    again = collected("grpo")
    second = collected("grpo", position=first.position, step=1)
    ids = [{group.task.id for group in each.groups} for each in (first, again, second)]
    assert ids[0] == ids[1]
    assert not ids[0] & ids[2]


def test_few_tasks_are_met_once_a_round_and_the_walk_still_advances() -> None:
    few = collected("grpo", count=3, wanted=8)
    assert sorted(group.task.id for group in few.groups) == ["0", "1", "2"]
    assert few.position == 8
