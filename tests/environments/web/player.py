"""A scripted player: it solves the shop's errands from nothing but the errand's sentence and the texts of the pages."""

from __future__ import annotations

import re
from typing import Any

from posttrain.core.protocols import Environment
from posttrain.core.types import Action, Grade, Message, Task, ToolCall


class Player:
    def __init__(self, environment: Environment, task: Task) -> None:
        self.environment, self.task = environment, task
        self.text = ""
        self.transcript: list[str] = []
        self.grade: Grade | None = None

    async def start(self) -> None:
        observation = await self.environment.reset(self.task)
        self.see(observation.messages[-1].content)

    async def act(self, tool: str, **arguments: Any) -> str:
        message = Message("assistant", "", tool_calls=(ToolCall(tool, arguments),))
        result = await self.environment.step(Action(message))
        assert not result.terminated
        self.grade = result.grade
        self.see(result.observation.messages[0].content)
        return self.text

    async def say(self, text: str) -> Grade | None:
        result = await self.environment.step(Action(Message("assistant", text)))
        assert result.terminated
        self.grade = result.grade
        return self.grade

    def see(self, text: str) -> None:
        self.text = text
        self.transcript.append(text)

    def number(self, label: str, line: str = "") -> int:
        """The number of the element with this label, in the line that begins with `line` or anywhere."""
        found = re.search(rf"\[(\d+)\] {re.escape(label)}", line or self.text)
        assert found, f"no {label!r} in\n{self.text}"
        return int(found[1])

    def after(self, label: str, text: str = "") -> int:
        """The number of the field or selection behind this label."""
        found = re.search(rf"{re.escape(label)} \[(\d+)\]", text or self.text)
        assert found, f"no {label!r} in\n{self.text}"
        return int(found[1])

    async def click(self, label: str) -> None:
        await self.act("click", element=self.number(label))

    async def open_product(self, name: str) -> None:
        await self.click("Home")
        await self.act("fill", element=self.after("Search"), text=name)
        await self.act("read")
        await self.click("(Search)")
        await self.click(name)

    async def buy(self, quantity: str = "1", name: str = "", city: str = "", delivery: str = "") -> None:
        """From a product's page to a placed order."""
        product_page = self.text
        if quantity != "1":
            await self.act("fill", element=self.after("Quantity"), text=quantity)
        await self.act("click", element=self.number("(Add to cart)", product_page))
        await self.click("Checkout")
        checkout_page = self.text
        if name:
            await self.act("fill", element=self.after("Name", checkout_page), text=name)
            await self.act("fill", element=self.after("City", checkout_page), text=city)
            await self.act("select", element=self.after("Delivery", checkout_page), option=delivery)
        await self.act("click", element=self.number("(Place order)", checkout_page))

    async def solve(self) -> Grade | None:
        errand = self.task.messages[-1].content.split("\n")[0]
        for pattern, play in ERRANDS:
            if found := re.fullmatch(pattern, errand):
                await play(self, *found.groups())
                return await self.say("It is done.")
        raise AssertionError(f"no way to do: {errand}")

    def block(self, name: str) -> str:
        """What the page says from this product's line on."""
        return self.text[self.text.index(name) :]


async def find(player: Player, word: str, what: str) -> None:
    await player.click("All products")
    before = player.text
    by_colour = what.endswith(" product")
    if by_colour:
        await player.act("fill", element=player.after("Search", before), text=what.removesuffix(" product"))
    else:
        await player.act("select", element=player.after("Category", before), option=what)
    await player.act("select", element=player.after("Sort by", before), option="cheapest" if word == "cheapest" else "dearest")
    await player.act("click", element=player.number("(Search)", before))
    listed = re.findall(r"\[\d+\] (\w+ \w+ \w+) \$", player.text)
    fitting = [name for name in listed if not by_colour or name.startswith(what.removesuffix("product"))]
    await player.click(fitting[0])
    await player.buy()


async def order(player: Player, name: str) -> None:
    await player.open_product(name)
    await player.buy()


async def quantity(player: Player, count: str, name: str) -> None:
    await player.open_product(name)
    await player.buy(count)


async def deliver(player: Player, name: str, person: str, city: str) -> None:
    await player.open_product(name)
    await player.buy("1", person, city, "express")


async def cart(player: Player, name: str, count: str) -> None:
    await player.click("Cart")
    block = player.block(name)
    await player.act("fill", element=player.after("Quantity", block), text=count)
    await player.act("click", element=player.number("(Change)", block))


async def remove(player: Player, name: str) -> None:
    await player.click("Cart")
    await player.act("click", element=player.number("(Remove)", player.block(name)))


async def cancel(player: Player, name: str) -> None:
    await player.click("Orders")
    await player.act("click", element=player.number("(Cancel order", player.block(name)))


ERRANDS = (
    (r"Order the (cheapest|most expensive) (.+) in the shop\.", find),
    (r"Order the (.+) for (.+) in (.+), with express delivery\.", deliver),
    (r"Order (\d+) pieces of the (.+)\.", quantity),
    (r"Order the (.+)\.", order),
    (r"Change the quantity of the (.+) in the cart to (\d+)\. Order nothing\.", cart),
    (r"Remove the (.+) from the cart\. Order nothing\.", remove),
    (r"Cancel the order of the (.+)\.", cancel),
)
