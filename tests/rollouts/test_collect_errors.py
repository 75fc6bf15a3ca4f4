"""A generator that breaks ends the collection with its error, once, and nothing is left to be printed afterwards."""

from __future__ import annotations

import asyncio
import gc
import logging
from array import array
from typing import Any

import pytest

from posttrain.core.errors import PromiseBroken
from posttrain.core.types import Completion, Grade, Message, Rollout, Sampling, Task
from posttrain.rollouts.collect import collect


class Diverged:
    """Every request fails in the same turn of the event loop, as they do when a batch's logits are not finite."""

    version = 0

    async def generate(self, prompt: array[int], sampling: Sampling, *, seed: int) -> Completion:
        await asyncio.sleep(0)
        raise PromiseBroken("the model's logits are not finite.")

    async def update(self, version: int) -> None: ...


class Bytes:
    def prompt(self, messages: Any) -> array[int]:
        return array("i", [1, 2])


async def fine(task: Task, rollout: Rollout) -> Grade:
    return Grade(1.0)


def test_errors_beside_the_one_that_is_raised_are_not_printed(caplog: pytest.LogCaptureFixture) -> None:
    tasks = [Task(str(i), (Message("user", "?"),)) for i in range(3)]

    async def work() -> None:
        await collect(tasks, Diverged(), Bytes(), fine, Sampling(1.0, 4), samples=2, seed=0)  # type: ignore[arg-type]

    with caplog.at_level(logging.ERROR, "asyncio"), pytest.raises(PromiseBroken, match="not finite"):
        asyncio.run(work())
    gc.collect()
    assert "never retrieved" not in caplog.text
