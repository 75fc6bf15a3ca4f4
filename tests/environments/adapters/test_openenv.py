"""OpenEnv, the real package: a server of its own in this process, asked over its WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from require import require

from posttrain.core.config import OpenEnvEnvironment
from posttrain.core.errors import EnvironmentFailed, UserError
from posttrain.core.types import Action, Message, ToolCall
from posttrain.environments import adapters
from posttrain.environments.web.serve import Site


def counter() -> Any:
    """A server whose world counts to three: each right guess of the next number is worth 1."""
    from openenv.core import Action as Act
    from openenv.core import Environment, State, create_fastapi_app
    from openenv.core import Observation as Seen

    class Guess(Act):
        number: int

    class Count(Seen):
        count: int

    class Counting(Environment):  # type: ignore[misc,type-arg]
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Count:
            self.count = (seed or 0) % 2
            return Count(count=self.count, done=False, reward=None)

        def step(self, action: Guess, timeout_s: float | None = None, **kwargs: Any) -> Count:  # type: ignore[override]
            right = action.number == self.count + 1
            self.count += right
            return Count(count=self.count, done=self.count >= 3, reward=float(right))

        @property
        def state(self) -> State:
            return State(step_count=self.count)

    return create_fastapi_app(Counting, Guess, Count, max_concurrent_envs=4)


def test_a_real_server_is_played_to_its_end() -> None:
    require("openenv")

    async def episode() -> None:
        import uvicorn

        site = Site(counter())
        site.server.config = uvicorn.Config(site.server.config.app, log_config=None, ws="websockets", lifespan="off")
        await site.start()
        config = OpenEnvEnvironment(url=site.origin, success=2.0)
        task = adapters.tasks(config, split="test", count=1, seed=0)[0]
        assert task.metadata["seed"] % 2 == 1
        world = adapters.factory(config)(task)
        try:
            opening = await world.reset(task)
            assert '{"count": 1}' in opening.messages[-1].content
            [act] = world.tools
            assert act.name == "act" and act.parameters["properties"].keys() == {"number"}
            told = []
            for arguments in ({"number": "two"}, {"number": 7}, {"number": 2}, {"number": 3}):
                step = await world.step(Action(Message("assistant", "", tool_calls=(ToolCall("act", arguments),))))
                told.append((step.observation.messages[0].content, step.terminated, step.grade and step.grade.score))
            assert "must be of type integer" in told[0][0] and told[0][2] is None
            assert told[1] == ('{"count": 1}\nreward 0', False, 0.0)
            assert told[3] == ('{"count": 3}\nreward 1', True, 2.0) and step.grade is not None and step.grade.passed
        finally:
            await world.close()
            await site.close()

    asyncio.run(episode())


def test_a_server_that_is_not_there_fails_and_a_wrong_address_is_refused() -> None:
    require("openenv")
    config = OpenEnvEnvironment(url="http://127.0.0.1:9")
    task = adapters.tasks(config, split="train", count=1, seed=0)[0]

    async def reset() -> None:
        world = adapters.factory(config)(task)
        try:
            await world.reset(task)
        finally:
            await world.close()

    with pytest.raises(EnvironmentFailed, match="did not answer /schema"):
        asyncio.run(reset())
    with pytest.raises(UserError, match=r"environment\.url"):
        adapters.factory(OpenEnvEnvironment(url="localhost:8000"))
