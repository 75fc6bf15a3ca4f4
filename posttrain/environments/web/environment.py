"""The shop as an environment: a fresh store and a fresh server an episode, five tools, a grade from the store's state.

The episode ends when the model answers without calling a tool. Every step carries the grade of the state as it is then, so an
episode that a limit ends is graded too. What the model is shown holds neither the port nor the forms' token: the same task and
the same actions give the same text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from posttrain.core.config import ShopEnvironment
from posttrain.core.errors import UserError
from posttrain.core.protocols import EnvironmentFactory
from posttrain.core.types import Action, Observation, StepResult, Task, Tool
from posttrain.environments.tools import Function, Toolbox
from posttrain.environments.web import chromium
from posttrain.environments.web.app import application
from posttrain.environments.web.http import PlainHttp
from posttrain.environments.web.judge import judge
from posttrain.environments.web.serve import Site
from posttrain.environments.web.store import Store
from posttrain.environments.web.visit import Transport, Visit

Connect = Callable[[str], Awaitable[Transport]]
"""Origin -> a transport to it."""

ELEMENT = {"type": "integer", "description": "The number before the element."}
ADDRESS = {"type": "string", "description": "Such as /cart."}
TEXT = {"type": "string", "description": "The whole new text."}
CHOICE = {"type": "string", "description": "One of its options."}
PART = {"type": "integer", "description": "Which part of a long page; 1 if left out."}


def tool(name: str, description: str, **parameters: dict[str, str]) -> Tool:
    required = [] if name == "read" else list(parameters)
    return Tool(name, description, {"type": "object", "properties": parameters, "required": required})


TOOLS = (
    tool("goto", "Open a page of the shop.", address=ADDRESS),
    tool("click", "Click a link or a button.", element=ELEMENT),
    tool("fill", "Write a text into a field.", element=ELEMENT, text=TEXT),
    tool("select", "Choose an option of a selection.", element=ELEMENT, option=CHOICE),
    tool("read", "Show the page again.", part=PART),
)


class Shopping:
    """One episode. Raises UserError for a task that has no shop in its metadata."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect
        self.tools: Sequence[Tool] = TOOLS
        self.world: Mapping[str, Any] = {}
        self.store: Store | None = None
        self.site: Site | None = None
        self.visit: Visit | None = None
        self.toolbox = Toolbox([Function(one, getattr(self, one.name)) for one in TOOLS])

    async def reset(self, task: Task) -> Observation:
        self.world, self.store = opened(task)
        self.site = Site(application(self.store))
        await self.site.start()
        self.visit = Visit(await self.connect(self.site.origin), self.site.origin)
        first = await self.visit.goto("/")
        *before, last = task.messages
        return Observation((*before, replace(last, content=f"{last.content}\n\n{first}")))

    async def step(self, action: Action) -> StepResult:
        assert self.store is not None, "reset comes first"
        result = await self.toolbox.step(action)
        return replace(result, grade=judge(self.store, self.world))

    async def close(self) -> None:
        try:
            if self.visit is not None:
                await self.visit.transport.close()
        finally:
            if self.site is not None:
                await self.site.close()
            if self.store is not None:
                self.store.close()

    @property
    def visiting(self) -> Visit:
        assert self.visit is not None, "reset comes first"
        return self.visit

    async def goto(self, arguments: Mapping[str, Any]) -> str:
        return await self.visiting.goto(arguments["address"])

    async def click(self, arguments: Mapping[str, Any]) -> str:
        return await self.visiting.click(arguments["element"])

    async def fill(self, arguments: Mapping[str, Any]) -> str:
        return await self.visiting.fill(arguments["element"], arguments["text"])

    async def select(self, arguments: Mapping[str, Any]) -> str:
        return await self.visiting.select(arguments["element"], arguments["option"])

    async def read(self, arguments: Mapping[str, Any]) -> str:
        return self.visiting.read(arguments.get("part", 1))


def opened(task: Task) -> tuple[Mapping[str, Any], Store]:
    """The task's world, and a store that holds it."""
    fix = "Use tasks of builtin:shop, or write metadata.shop as they have it."
    world = task.metadata.get("shop")
    if not isinstance(world, Mapping):
        raise UserError(f"task {task.id} has no shop in its metadata.", fix=fix)
    try:
        if not {"cart", "orders"} <= world["goal"].keys():
            raise KeyError("goal.cart and goal.orders")
        return world, Store(world)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"task {task.id}: metadata.shop cannot be read ({type(error).__name__}: {error}).", fix=fix) from error


async def plainly(origin: str) -> Transport:
    return PlainHttp(origin)


def factory(config: ShopEnvironment) -> tuple[EnvironmentFactory, Callable[[], Awaitable[None]]]:
    """What makes episodes, and the end of what they share. Raises UserError where the browser asked for is not there."""
    if config.browser == "http":
        return lambda task: Shopping(plainly), nothing
    chromium.program()
    shared = chromium.Chromium()
    return lambda task: Shopping(shared.visit), shared.close


async def nothing() -> None:
    """Episodes over plain HTTP share nothing."""
