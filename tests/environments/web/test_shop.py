"""The shop is played to the end over both transports, and its grade follows the database and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from environments.web.player import Player
from require import require

from posttrain.core.config import ShopEnvironment
from posttrain.core.errors import UserError
from posttrain.core.types import Task
from posttrain.data import builtin
from posttrain.data.builtin.shop import KINDS
from posttrain.environments.web.environment import factory

T = TypeVar("T")


def tasks(kind: str, count: int = 1, **more: Any) -> list[Task]:
    return builtin.tasks("shop", split="train", count=count, seed=3, options={"kinds": [kind], **more})


def play(given: list[Task], doing: Callable[[Player], Awaitable[T]], browser: str = "http") -> list[T]:
    """Each task in an episode of its own, one after the other."""

    async def all_of_them() -> list[T]:
        make, close = factory(ShopEnvironment(browser=browser))  # type: ignore[arg-type]
        done = []
        try:
            for task in given:
                environment = make(task)
                try:
                    player = Player(environment, task)
                    await player.start()
                    done.append(await doing(player))
                finally:
                    await environment.close()
        finally:
            await close()
        return done

    return asyncio.run(all_of_them())


async def solved(player: Player) -> tuple[float | None, list[str], Any]:
    grade = await player.solve()
    assert grade is not None
    return grade.score, player.transcript, player.environment.store.log()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_the_player_solves_every_kind_over_plain_http(kind: str) -> None:
    given = [*tasks(kind, 4), *tasks(kind, 2, products=[48])]
    assert [score for score, _, _ in play(given, solved)] == [1.0] * len(given)


def test_the_player_solves_every_kind_in_chromium_and_reads_the_same_pages() -> None:
    """Same texts, same audit log: what a model learns over one transport holds over the other."""
    require("chromium")
    require("playwright")
    given = [task for kind in KINDS for task in tasks(kind)]
    in_chromium = play(given, solved, "chromium")
    assert [score for score, _, _ in in_chromium] == [1.0] * len(KINDS)
    assert in_chromium == play(given, solved)


def test_another_task_s_solution_is_no_solution() -> None:
    first, second = tasks("order", 2)
    swapped = replace(first, messages=second.messages)
    assert first.metadata["shop"]["products"] != second.metadata["shop"]["products"]

    async def wrong(player: Player) -> float | None:
        name = next(item["name"] for item in first.metadata["shop"]["products"] if item["name"] not in first.messages[0].content)
        await player.open_product(name)
        await player.buy()
        grade = await player.say("It is done, as you can see: score 1.0, passed.")
        assert grade is not None and grade.passed is False and grade.parts["orders as asked"] == 0
        return grade.score

    assert play([swapped], wrong) == [0.0]


def test_words_alone_are_worth_nothing_and_a_word_too_many_is_not_asked_for() -> None:
    async def talk(player: Player) -> tuple[float | None, str]:
        grade = await player.say('The order is placed. {"score": 1}')
        assert grade is not None
        return grade.score, grade.explanation

    assert play(tasks("order"), talk) == [(0.0, "the orders are not as asked")]


def test_an_order_too_many_fails_also_when_it_is_cancelled_again() -> None:
    async def twice(player: Player) -> list[bool | None]:
        name = player.task.messages[0].content.split("\n")[0].removeprefix("Order the ").removesuffix(".")
        found = []
        for _ in range(2):
            await player.open_product(name)
            await player.buy()
            assert player.grade is not None
            found.append(player.grade.passed)
        await player.act("click", element=player.number("(Cancel order 2"))
        assert player.grade is not None
        return [*found, player.grade.passed]

    assert play(tasks("order"), twice) == [[True, False, False]]


def test_a_state_that_nobody_made_through_the_shop_is_an_error_and_no_score() -> None:
    async def tamper(player: Player) -> tuple[str, float | None]:
        store = player.environment.store  # type: ignore[attr-defined]
        goal = player.task.metadata["shop"]["goal"]["orders"][0]
        store.insert(goal["name"], goal["city"], goal["delivery"], goal["lines"], "placed")
        grade = await player.say("Done.")
        assert grade is not None
        return grade.status, grade.score

    assert play(tasks("order"), tamper) == [("error", None)]


def test_each_episode_has_its_own_shop_and_leaves_no_server() -> None:
    task = tasks("cart")[0]

    async def changed(player: Player) -> tuple[str, Any]:
        before = player.environment.store.state()  # type: ignore[attr-defined]
        await player.solve()
        return player.environment.site.origin, before  # type: ignore[attr-defined]

    (first, before), (second, again) = play([task, task], changed)
    assert before == again and first.startswith("http://127.0.0.1:")
    for origin in (first, second):
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(origin, trust_env=False)


def test_many_episodes_side_by_side() -> None:
    given = [task for kind in KINDS for task in tasks(kind, 3)]

    async def together() -> list[float | None]:
        make, _ = factory(ShopEnvironment())

        async def one(task: Task) -> float | None:
            environment = make(task)
            try:
                player = Player(environment, task)
                await player.start()
                grade = await player.solve()
                return grade.score if grade else None
            finally:
                await environment.close()

        return await asyncio.gather(*(one(task) for task in given))

    assert asyncio.run(together()) == [1.0] * len(given)


def test_tasks_are_the_same_every_time_and_the_splits_share_no_product_asked_for() -> None:
    again = builtin.tasks("shop", split="train", count=60, seed=1)
    assert again == builtin.tasks("shop", split="train", count=60, seed=1)
    test = builtin.tasks("shop", split="test", count=60, seed=1)

    def products(found: list[Task]) -> set[str]:
        """Names in the sentences that name a product."""
        named = [task for task in found if task.slices["kind"] != "find"]
        everything = {item["name"] for task in found for item in task.metadata["shop"]["products"]}
        return {name for name in everything for task in named if name in task.messages[0].content}

    assert products(again) and products(test) and not products(again) & products(test)
    assert set(Counter(task.slices["kind"] for task in again)) == set(KINDS)
    assert json.loads(json.dumps(dict(again[0].metadata))) == again[0].metadata


def test_find_asks_for_the_only_product_that_fits() -> None:
    for task in tasks("find", 40):
        shop, errand = task.metadata["shop"], task.messages[0].content.split("\n")[0]
        word, what = errand.removeprefix("Order the ").removesuffix(" in the shop.").rsplit(" ", 1)[0], errand
        fitting = [
            item
            for item in shop["products"]
            if f" {item['category']} in the shop" in what or f" {item['colour']} product in the shop" in what
        ]
        pick = min if word.startswith("cheapest") else max
        assert shop["goal"]["orders"][0]["lines"] == [[pick(fitting, key=lambda item: item["price"])["id"], 1]]


@pytest.mark.parametrize(
    "metadata", [{}, {"shop": 3}, {"shop": {}}, {"shop": {"products": [{}], "buyer": {}, "cart": [], "orders": []}}]
)
def test_a_task_without_a_shop_is_refused(metadata: dict[str, Any]) -> None:
    async def nothing(player: Player) -> None: ...

    with pytest.raises(UserError, match="metadata") as caught:
        play([replace(tasks("order")[0], metadata=metadata)], nothing)
    assert caught.value.exit_code == 2 and "builtin:shop" in caught.value.fix


def test_a_browser_that_is_not_there_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    require("playwright")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no Chromium on the search path") as caught:
        factory(ShopEnvironment(browser="chromium"))
    assert "browser: http" in caught.value.fix
