"""gymnasium (MIT): environments with a discrete or a text action, one call of the tool `act` a step.

Assumes that an environment is fixed by its seed, as `reset(seed=...)` promises. The score is the sum of rewards, unscaled, and the
package's `truncated` (a time limit of the environment) stays apart from `terminated`. Spaces of numbers that are no choice (a
continuous action) are refused: a language model cannot say them. Steps run in a thread, so a deadline can end them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium import spaces

from posttrain.core.config import GymnasiumEnvironment
from posttrain.core.errors import UserError
from posttrain.core.protocols import EnvironmentFactory
from posttrain.core.types import Action, Grade, Message, Observation, StepResult, Task, Tool
from posttrain.environments.adapters.seeds import seeds
from posttrain.environments.tools import CALL_MARK, misfit, result, unreadable

MOST_VALUES = 64
CODE = re.compile(r"\x1b\[[0-9;]*m")
MARKED = re.compile(r"\x1b\[[0-9;]*m([^\x1b\n]+)\x1b\[0m")


class Gym:
    """One episode."""

    def __init__(self, config: GymnasiumEnvironment) -> None:
        self.config = config
        self.world: gymnasium.Env[Any, Any] = made(config)
        self.tools: Sequence[Tool] = (act_tool(config, self.world.action_space),)
        self.total = 0.0
        self.over = False

    async def reset(self, task: Task) -> Observation:
        seed = task.metadata.get("seed")
        if not isinstance(seed, int):
            raise UserError(f"task {task.id} has no seed in its metadata.", fix="Write tasks with `posttrain environments tasks`.")
        first, _ = await asyncio.to_thread(self.world.reset, seed=seed)
        return Observation((*task.messages[:-1], Message("user", f"{task.messages[-1].content}\n\n{self.view(first)}")))

    async def step(self, action: Action) -> StepResult:
        """The first call counts: after it the world is another one, which the model has not seen."""
        calls = action.message.tool_calls
        if not calls:
            text = unreadable(self.tools) if CALL_MARK in action.message.content else "error: call act to do something"
            return StepResult(Observation((result(text),)), grade=self.grade())
        call = calls[0]
        problem = misfit(self.tools[0], call.arguments) if call.name == "act" else f"there is no tool {call.name!r}; tools: act"
        if problem or (problem := self.outside(call.arguments["action"])):
            return StepResult(Observation((result(f"error: {problem}", call),)), grade=self.grade())
        seen, reward, terminated, truncated, _ = await asyncio.to_thread(self.world.step, self.move(call.arguments["action"]))
        self.total += float(reward)
        told = f"{self.view(seen)}\nreward {float(reward):g}"
        ignored = "\n(only the first call of a turn is done)" if len(calls) > 1 else ""
        return StepResult(Observation((result(told + ignored, call),)), bool(terminated), bool(truncated), self.grade())

    async def close(self) -> None:
        await asyncio.to_thread(self.world.close)

    def grade(self) -> Grade:
        passed = None if self.config.success is None else self.total >= self.config.success
        return Grade(self.total, passed=passed, explanation=f"sum of rewards {self.total:g}")

    def outside(self, said: Any) -> str:
        """What is wrong with an action; empty if the world has it."""
        names = self.config.actions
        if names:
            return "" if said in names else f"{said!r} is no action; actions: {', '.join(names)}"
        return "" if self.move(said) in self.world.action_space else f"{said!r} is no action here"

    def move(self, said: Any) -> Any:
        space = self.world.action_space
        if isinstance(space, spaces.Discrete):
            return int(space.start) + self.config.actions.index(said) if self.config.actions else said
        return said

    def view(self, seen: Any) -> str:
        return drawn(str(self.world.render())) if self.config.render else written(seen)


def drawn(text: str) -> str:
    """What an environment drew for a terminal, with what it marks by colour (the place one stands on) in brackets."""
    return CODE.sub("", MARKED.sub(r"[\1]", text)).strip("\n")


def written(value: Any) -> str:
    """An observation as text: numbers, texts, and groups of them by name or order. Raises UserError for what has no short text."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {written(item)}" for name, item in value.items())
    if isinstance(value, tuple):
        return ", ".join(written(item) for item in value)
    if hasattr(value, "shape") and value.shape:
        if value.size > MOST_VALUES:
            raise UserError(f"an observation of this environment has {value.size} numbers.", fix="Set render: true, or wrap it.")
        return "[" + ", ".join(f"{float(number):g}" for number in value.flatten()) + "]"
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def made(config: GymnasiumEnvironment) -> gymnasium.Env[Any, Any]:
    mode: dict[str, Any] = {"render_mode": "ansi"} if config.render else {}
    try:
        return gymnasium.make(config.id, **mode, **dict(config.options))
    except (gymnasium.error.Error, TypeError, ImportError) as error:
        raise UserError(f"gymnasium cannot make {config.id!r}: {error}", fix="Correct environment.id or its options.") from error


def act_tool(config: GymnasiumEnvironment, space: Any) -> Tool:
    """The tool for this action space. Raises UserError for one that a model cannot choose from."""
    if isinstance(space, spaces.Discrete):
        count, first = int(space.n), int(space.start)
        if config.actions and len(config.actions) != count:
            raise UserError(f"actions names {len(config.actions)} actions, and {config.id} has {count}.", fix="Name each once.")
        if config.actions:
            schema = {"type": "string", "enum": list(config.actions)}
        else:
            schema = {"type": "integer", "description": f"A whole number from {first} to {first + count - 1}."}
    elif isinstance(space, spaces.Text):
        schema = {"type": "string", "description": f"A text of at most {space.max_length} characters."}
    else:
        raise UserError(
            f"{config.id} has the action space {space}.", fix="Choose one with a discrete or a text action, or wrap it."
        )
    return Tool("act", "Do one action.", {"type": "object", "properties": {"action": schema}, "required": ["action"]})


def factory(config: GymnasiumEnvironment) -> EnvironmentFactory:
    world = made(config)
    try:
        act_tool(config, world.action_space)
        if config.render and "ansi" not in world.metadata.get("render_modes", ()):
            raise UserError(f"render is true, and {config.id} draws no text.", fix="Set render: false.")
    finally:
        world.close()
    return lambda task: Gym(config)


def tasks(config: GymnasiumEnvironment, *, split: str, count: int, seed: int) -> list[Task]:
    factory(config)
    ask = f"You are in {config.id}. Call act again and again to collect as much reward as you can."
    return [
        Task(f"{config.id}/{split}/{number}", (Message("user", ask),), slices={"game": config.id}, metadata={"seed": number})
        for number in seeds(config.id, split=split, count=count, seed=seed)
    ]
