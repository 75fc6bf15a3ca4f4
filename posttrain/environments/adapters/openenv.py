"""OpenEnv (BSD-3): environments that run as servers, asked over a WebSocket by the package's generic client.

The action is whatever the server says it takes: its JSON schema becomes the parameters of the tool `act`. Observations come as
JSON and are shown as that. The score is the sum of the rewards. Nothing of the environment's own code runs here; the server is
yours to start and to trust, and a fault of it is a failed rollout. Seeds are passed on; whether they fix a world is the server's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx2

from posttrain.core.config import OpenEnvEnvironment
from posttrain.core.errors import EnvironmentFailed, UserError
from posttrain.core.protocols import EnvironmentFactory
from posttrain.core.types import Action, Grade, Message, Observation, StepResult, Task, Tool
from posttrain.environments.adapters.seeds import seeds
from posttrain.environments.tools import CALL_MARK, cut, misfit, result, unreadable

TIMEOUT_S = 20.0


class Remote:
    """One episode: one session with the server."""

    def __init__(self, config: OpenEnvEnvironment) -> None:
        self.config = config
        self.tools: Sequence[Tool] = ()
        self.client: Any = None
        self.total: float | None = None

    async def reset(self, task: Task) -> Observation:
        from openenv.core import GenericEnvClient

        self.tools = (act_tool(await self.asked("/schema")),)
        self.client = GenericEnvClient(base_url=self.config.url.rstrip("/"))
        await self.client.connect()
        first = await self.client.reset(seed=task.metadata.get("seed"))
        return Observation((*task.messages[:-1], Message("user", f"{task.messages[-1].content}\n\n{shown(first)}")))

    async def step(self, action: Action) -> StepResult:
        """The first call counts: after it the world is another one, which the model has not seen."""
        calls = action.message.tool_calls
        if not calls:
            text = unreadable(self.tools) if CALL_MARK in action.message.content else "error: call act to do something"
            return StepResult(Observation((result(text),)), grade=self.grade())
        problem = misfit(self.tools[0], calls[0].arguments) if calls[0].name == "act" else f"there is no tool {calls[0].name!r}"
        if problem:
            return StepResult(Observation((result(f"error: {problem}", calls[0]),)), grade=self.grade())
        answer = await self.client.step(dict(calls[0].arguments))
        if answer.reward is not None:
            self.total = (self.total or 0.0) + float(answer.reward)
        return StepResult(Observation((result(shown(answer), calls[0]),)), terminated=bool(answer.done), grade=self.grade())

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()

    def grade(self) -> Grade:
        if self.total is None:
            return Grade.unscored("the server gave no reward")
        passed = None if self.config.success is None else self.total >= self.config.success
        return Grade(self.total, passed=passed, explanation=f"sum of rewards {self.total:g}")

    async def asked(self, path: str) -> Mapping[str, Any]:
        try:
            async with httpx2.AsyncClient(timeout=TIMEOUT_S) as client:
                answer = await client.get(self.config.url.rstrip("/") + path)
                answer.raise_for_status()
                found = answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise EnvironmentFailed(f"the OpenEnv server at {self.config.url} did not answer {path}: {error}") from error
        if not isinstance(found, dict) or not isinstance(found.get("action"), dict):
            raise EnvironmentFailed(f"the server at {self.config.url} does not say what actions it takes; is it an OpenEnv server?")
        return found


def act_tool(schemas: Mapping[str, Any]) -> Tool:
    """The server's schema of an action as a tool; `metadata` is for programs and left out."""
    action = schemas["action"]
    properties = {name: value for name, value in action.get("properties", {}).items() if name != "metadata"}
    parameters = {"type": "object", "properties": properties, "required": list(action.get("required", ()))}
    if "$defs" in action:
        parameters["$defs"] = action["$defs"]
    return Tool("act", str(action.get("description") or "Do one action."), parameters)


def shown(answer: Any) -> str:
    hidden = {"done", "reward", "metadata"}
    seen = {name: value for name, value in dict(answer.observation).items() if name not in hidden}
    told = json.dumps(seen, ensure_ascii=False, default=str)
    return cut(told if answer.reward is None else f"{told}\nreward {float(answer.reward):g}")


def factory(config: OpenEnvEnvironment) -> EnvironmentFactory:
    parts = urlsplit(config.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"environment.url is {config.url!r}.", fix="Write an address such as http://127.0.0.1:8000.")
    return lambda task: Remote(config)


def tasks(config: OpenEnvEnvironment, *, split: str, count: int, seed: int) -> list[Task]:
    factory(config)
    ask = "You are in an environment. Call act again and again until it ends, to collect as much reward as you can."
    return [
        Task(f"openenv/{split}/{number}", (Message("user", ask),), metadata={"seed": number})
        for number in seeds("openenv", split=split, count=count, seed=seed)
    ]
