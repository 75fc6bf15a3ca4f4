"""The tools environment: the model may call functions until it answers in plain text, which ends the episode.

It gives no grade: graders judge the answer, as they judge any other. What a model does wrong is told to it and is no error of
ours: a call that cannot be read, a tool that is not there, arguments that do not fit, a query that fails. Fails where a model
calls without end: the limits of an episode end that.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.core.types import Action, Message, Observation, StepResult, Task, Tool, ToolCall

MOST_CALLS = 8
"""Calls that are answered in one turn."""
MOST_CHARACTERS = 2000
"""Of one result; the rest is cut, and that is said."""
CALL_MARK = "<tool_call"
"""Text that holds this was meant as a call, though none could be read."""
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}


class Mistake(Exception):
    """The model asked for what cannot be done. Its text is what the model reads."""


@dataclass(frozen=True)
class Function:
    """A tool and what it does: arguments -> the text of the result, or a Mistake."""

    tool: Tool
    call: Callable[[Mapping[str, Any]], str | Awaitable[str]]


class Toolbox:
    """The environment of one episode. The functions are shared; an episode has no state of its own."""

    def __init__(self, functions: Sequence[Function]) -> None:
        self.functions = {function.tool.name: function for function in functions}
        self.tools: Sequence[Tool] = tuple(function.tool for function in functions)

    async def reset(self, task: Task) -> Observation:
        return Observation(task.messages)

    async def step(self, action: Action) -> StepResult:
        calls = action.message.tool_calls
        if not calls and CALL_MARK in action.message.content:
            return StepResult(Observation((result(unreadable(self.tools)),)))
        if not calls:
            return StepResult(Observation(), terminated=True)
        found = [result(await self.answered(call), call) for call in calls[:MOST_CALLS]]
        if len(calls) > MOST_CALLS:
            found.append(result(f"error: only the first {MOST_CALLS} calls of a turn are answered"))
        return StepResult(Observation(tuple(found)))

    async def close(self) -> None:
        """Nothing is held: what the functions share is closed with the factory."""

    async def answered(self, call: ToolCall) -> str:
        function = self.functions.get(call.name)
        if function is None:
            return f"error: there is no tool {call.name!r}; tools: {', '.join(self.functions)}"
        if problem := misfit(function.tool, call.arguments):
            return f"error: {problem}"
        try:
            answer = function.call(call.arguments)
            return cut(await answer if inspect.isawaitable(answer) else answer)
        except Mistake as mistake:
            return f"error: {mistake}"


def result(text: str, call: ToolCall | None = None) -> Message:
    return Message("tool", text, name=call.name if call else "")


def unreadable(tools: Sequence[Tool]) -> str:
    names = ", ".join(tool.name for tool in tools)
    return f'error: the call could not be read; write <tool_call>{{"name": ..., "arguments": {{...}}}}</tool_call> (tools: {names})'


def cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}\n(cut after {MOST_CHARACTERS} characters)"


def misfit(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """What is wrong with the arguments of a call by the tool's schema: names, what is required, and types; empty if they fit."""
    known: Mapping[str, Any] = tool.parameters.get("properties", {})
    for name in tool.parameters.get("required", ()):
        if name not in arguments:
            return f"{tool.name} needs the argument {name!r}"
    for name, value in arguments.items():
        if name not in known:
            return f"{tool.name} has no argument {name!r}; arguments: {', '.join(known)}"
        wanted = known[name].get("type", "")
        fits = isinstance(value, TYPES.get(wanted, (object,))) and (wanted == "boolean" or not isinstance(value, bool))
        if wanted and not fits:
            return f"the argument {name!r} of {tool.name} must be of type {wanted}"
    return ""
