"""What a model might try on the shop: it is told so, nothing changes, and nothing outside is reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from environments.web.player import Player
from environments.web.test_shop import play, tasks
from require import require
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from posttrain.core.config import ShopEnvironment
from posttrain.environments.tools import Mistake
from posttrain.environments.web.chromium import Chromium
from posttrain.environments.web.environment import TOOLS
from posttrain.environments.web.http import PlainHttp
from posttrain.environments.web.page import read_page, written
from posttrain.environments.web.serve import Site
from posttrain.environments.web.visit import LONGEST_ADDRESS, LONGEST_TEXT, Visit

INJECTION = "'; DROP TABLE product; --"
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
ELSEWHERE = [
    "http://example.com/",
    "https://127.0.0.1/",
    "//example.com/cart",
    "http://127.0.0.1:1/",
    "http://user:word@127.0.0.1/",
    "http://localhost/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "data:text/html,hello",
    "view-source:http://127.0.0.1/",
    "chrome://version",
    "about:blank",
    "\\\\example.com\\share",
    "http://[::1",
    "/cart\r\nHost: evil",
    "/" + "a" * LONGEST_ADDRESS,
]


def state(player: Player) -> Any:
    return player.environment.store.state()  # type: ignore[attr-defined]


def test_no_tool_evaluates_script() -> None:
    assert [tool.name for tool in TOOLS] == ["goto", "click", "fill", "select", "read"]


@pytest.mark.parametrize("browser", ["http", "chromium"])
def test_other_places_are_not_opened(browser: str) -> None:
    if browser == "chromium":
        require("chromium")
        require("playwright")

    async def wander(player: Player) -> list[str]:
        before = state(player)
        told = [await player.act("goto", address=address) for address in ELSEWHERE]
        assert (await player.act("read")).startswith("/\n") and state(player) == before
        return told

    [told] = play(tasks("order"), wander, browser)
    assert all(text.startswith("error: ") for text in told), told


@pytest.mark.parametrize(
    "path",
    ["/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/product/..%2f..%2fetc%2fpasswd", "/static/../app.py", "/cart/add"],
)
def test_no_path_leads_to_a_file(path: str) -> None:
    async def climb(player: Player) -> str:
        return await player.act("goto", address=path)

    [text] = play(tasks("order"), climb)
    assert "root:" not in text and ("There is no such page." in text or "cannot be used like that" in text)


def test_text_of_a_model_is_text_in_queries_and_pages() -> None:
    async def inject(player: Player) -> None:
        before = state(player)
        for text in (INJECTION, "%", "_", SCRIPT, "' OR 1=1 --"):
            await player.click("All products")
            page = player.text
            await player.act("fill", element=player.after("Search", page), text=text)
            await player.act("click", element=player.number("(Search)", page))
            assert "\n0 found" in player.text, (text, player.text)
            assert player.after("Search") == player.after("Search", page), "the text made an element of its own"
        await player.act("goto", address="/product/1%20OR%201=1")
        assert "A whole number is needed here." in player.text
        assert state(player) == before

    play(tasks("cart"), inject)


def test_script_in_a_name_does_nothing_in_a_browser() -> None:
    require("chromium")
    require("playwright")

    async def write(player: Player) -> tuple[str, str]:
        await player.click("All products")
        await player.act("click", element=9)
        await player.buy("1", SCRIPT[:55], '"><button>Free</button>', "pickup")
        tab = player.environment.visit.transport.tab  # type: ignore[attr-defined]
        return player.text, await tab.title()

    [(text, title)] = play(tasks("order"), write, "chromium")
    assert title == "Orders" and "<script>document.title" in text and "<button>Free</button>" in text
    assert text.count("] (") == 1, "only the shop's own button has a number"


@pytest.mark.parametrize("quantity", ["0", "-1", "1.5", "100", "9" * 300, "١", "1e3", "", "NULL"])
def test_a_quantity_that_is_none_changes_nothing(quantity: str) -> None:
    async def ask(player: Player) -> str:
        before = state(player)
        await player.act("goto", address="/product/1")
        page = player.text
        await player.act("fill", element=player.after("Quantity", page), text=quantity)
        await player.act("click", element=player.number("(Add to cart)", page))
        assert state(player) == before
        return player.text

    [text] = play(tasks("order"), ask)
    assert "whole number" in text or "in stock" in text


def test_calls_that_do_not_fit_are_explained() -> None:
    async def blunder(player: Player) -> None:
        for tool, arguments, told in [
            ("evaluate", {"script": "1"}, "there is no tool 'evaluate'"),
            ("goto", {}, "needs the argument 'address'"),
            ("goto", {"address": 3}, "must be of type string"),
            ("click", {"element": "5; DROP"}, "must be of type integer"),
            ("click", {"element": 99}, "there is no element 99"),
            ("click", {"element": -1}, "there is no element -1"),
            ("click", {"element": 5}, "is a field; use fill"),
            ("fill", {"element": 1, "text": "x"}, "is a link and cannot be filled"),
            ("fill", {"element": 5, "text": "x" * (LONGEST_TEXT + 1)}, f"at most {LONGEST_TEXT}"),
            ("fill", {"element": 5, "text": "two\nlines"}, "one line of printable characters"),
            ("fill", {"element": 5, "text": "\x1b[2J"}, "one line of printable characters"),
            ("select", {"element": 6, "option": "everything"}, "has no such option; options: any"),
            ("read", {"part": 7}, "this page has 1 part"),
        ]:
            text = await player.act(tool, **arguments)
            assert text.startswith("error: ") and told in text, text

    play(tasks("order"), blunder)


def test_the_server_itself_refuses_what_no_form_of_its_own_sends() -> None:
    """As another program on this machine could, past the tools."""

    async def knock(player: Player) -> list[int]:
        origin, before = player.environment.site.origin, state(player)  # type: ignore[attr-defined]
        form = {"product": "1", "quantity": "1"}
        async with httpx2.AsyncClient(base_url=origin, trust_env=False) as client:
            page = (await client.get("/product/1")).text
            token = page.split('name="token" value="')[1].split('"')[0]
            answers = [
                await client.post("/cart/add", data=form),
                await client.post("/cart/add", data={**form, "token": "x" * 22}),
                await client.post("/cart/add", data={**form, "token": token}, headers={"origin": "http://evil.example"}),
                await client.post("/cart/add", data={**form, "token": token, "more": "x" * 10_000}),
                await client.post("/cart/add", content=b"\xff\xfe%%%"),
                await client.get("/", headers={"host": "evil.example"}),
                await client.get("/cart/add"),
                await client.request("DELETE", "/orders"),
            ]
            assert state(player) == before
            accepted = await client.post("/cart/add", data={**form, "token": token}, headers={"origin": origin})
            assert state(player) != before
        return [answer.status_code for answer in (*answers, accepted)]

    assert play(tasks("order"), knock) == [[403, 403, 403, 413, 400, 400, 405, 405, 303]]


async def page(request: Request) -> Response:
    return HTMLResponse('<a href="/loop">loop</a> <a href="javascript:alert(1)">script</a> <a href="/off">off</a> <p>start</p>')


async def loop(request: Request) -> Response:
    return RedirectResponse(f"/loop?{int(request.url.query or 0) + 1}")


async def big(request: Request) -> Response:
    return HTMLResponse("<p>" + "x" * (3 << 20))


@asynccontextmanager
async def trap() -> AsyncIterator[tuple[str, list[str]]]:
    """A site whose pages lead away, and a second one that must not be read."""
    reached: list[str] = []

    async def secret(request: Request) -> Response:
        reached.append(str(request.url))
        return HTMLResponse("<p>the secret</p>")

    other = Site(Starlette(routes=[Route("/", secret)]))
    leads = {"/off": other.origin + "/", "/file": "file:///etc/passwd", "/out": "http://example.invalid/"}

    def to(target: str) -> Callable[[Request], Awaitable[Response]]:
        async def lead(request: Request) -> Response:
            return RedirectResponse(target)

        return lead

    routes = [Route("/", page), Route("/loop", loop), Route("/big", big), *(Route(path, to(url)) for path, url in leads.items())]
    site = Site(Starlette(routes=routes))
    await site.start()
    await other.start()
    try:
        yield site.origin, reached
    finally:
        await site.close()
        await other.close()


@pytest.mark.parametrize("browser", ["http", "chromium"])
def test_redirects_off_the_site_without_end_and_pages_without_end(browser: str) -> None:
    if browser == "chromium":
        require("chromium")
        require("playwright")

    async def follow() -> None:
        shared = Chromium()
        async with trap() as (origin, reached):
            transport = PlainHttp(origin) if browser == "http" else await shared.visit(origin)
            visit = Visit(transport, origin)
            try:
                await visit.goto("/")
                for path in ("/loop", "/off", "/file", "/out", "/big"):
                    with pytest.raises(Mistake) as told:
                        await visit.goto(path)
                    assert "secret" not in str(told.value) and "root:" not in str(told.value)
                    assert visit.read().startswith("/\n") and "start" in visit.read()
                with pytest.raises(Mistake, match="only pages of this shop"):
                    await visit.click(2)
                with pytest.raises(Mistake):
                    await visit.click(1)
                assert "start" in await visit.goto("/")
                assert browser == "chromium" or not reached
            finally:
                await transport.close()
                await shared.close()

    asyncio.run(follow())


def test_a_long_page_is_read_in_parts_and_nothing_is_lost() -> None:
    async def read() -> None:
        lines = [f"line {number} of the page" for number in range(200)]

        async def long(request: Request) -> Response:
            return HTMLResponse("".join(f"<p>{line}</p>" for line in lines))

        site = Site(Starlette(routes=[Route("/", long)]))
        await site.start()
        visit = Visit(PlainHttp(site.origin), site.origin)
        first = await visit.goto("/")
        parts = [first, *(visit.read(part) for part in range(2, 4))]
        assert all(len(part) <= 2000 for part in parts) and "(part 1 of 3; read the next with part 2)" in first
        shown = [line for part in parts for line in part.split("\n") if line.startswith("line ")]
        assert shown == lines
        await visit.transport.close()
        await site.close()

    asyncio.run(read())


def test_pages_are_parsed_without_script_style_or_control_characters() -> None:
    html = (
        "<title>T</title><script>alert(1)</script><style>p{}</style><p>a\x1b[31mb‮c</p>"
        '<form action="/x"><input type=hidden name=h value=1><label>Word <input name=w value="old"></label>'
        '<select name=s><option value="1">one<option value="2" selected>two</select><button>Go <b>on</b></button></form>'
        '<a>no link</a> <a href="/y">a link</a><p>open <p>end'
    )
    found = read_page(html)
    expected = 'a[31mbc\nWord [1] "new" [2] <two: one, two> [3] (Go on)\nno link [4] a link\nopen\nend'
    assert found.title == "T" and written(found, {1: "new"}) == expected
    button = found.elements[3]
    assert button.form is not None and button.form.hidden == [("h", "1")] and button.form.method == "get"


def test_settings_of_the_shop_are_checked() -> None:
    assert ShopEnvironment().max_turns == 16
    with pytest.raises(ValueError, match="max_turns"):
        ShopEnvironment(max_turns=0)
