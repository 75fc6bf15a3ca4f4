"""The shop over plain HTTP: what a browser does with links and forms, without one.

Follows redirects itself, so that each is checked: never off the site, never more than ten. A page is read up to a size.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode, urljoin

import httpx2

from posttrain.core.errors import EnvironmentFailed
from posttrain.environments.web.page import Element, Page
from posttrain.environments.web.visit import ENDLESS, LARGEST_PAGE, MOST_REDIRECTS, OFF_SITE, TOO_LARGE, Loaded, Lost, within

TIMEOUT_S = 20.0


class PlainHttp:
    """A visitor's connection to one origin, from `open` to `close`."""

    def __init__(self, origin: str) -> None:
        self.origin, self.address = origin, origin + "/"
        self.client = httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)

    async def open(self, address: str) -> Loaded:
        return await self.fetch("GET", address)

    async def click(self, element: Element, entered: Mapping[int, str], page: Page) -> Loaded:
        if element.kind == "link":
            return await self.fetch("GET", urljoin(self.address, element.target))
        form = element.form
        if form is None:
            raise Lost("this button does nothing")
        fields = [*form.hidden, *inputs(element, entered, page)]
        target = urljoin(self.address, form.action)
        if form.method == "post":
            return await self.fetch("POST", target, urlencode(fields))
        return await self.fetch("GET", f"{target.split('?')[0]}?{urlencode(fields)}")

    async def fill(self, element: Element, text: str) -> None:
        """Nothing to do: what was entered is sent with the form."""

    async def choose(self, element: Element, label: str) -> None:
        """Nothing to do: what was chosen is sent with the form."""

    async def close(self) -> None:
        await self.client.aclose()

    async def fetch(self, method: str, address: str, body: str = "") -> Loaded:
        for _ in range(MOST_REDIRECTS + 1):
            if not within(address, self.origin):
                raise Lost(OFF_SITE)
            status, target, html = await self.request(method, address, body)
            if not target:
                self.address = address
                return Loaded(address, html)
            address = urljoin(address, target)
            method, body = ("GET", "") if status in (301, 302, 303) else (method, body)
        raise Lost(ENDLESS)

    async def request(self, method: str, address: str, body: str) -> tuple[int, str, str]:
        """One exchange: the status, where it redirects to (or nothing), and the page."""
        headers = {"content-type": "application/x-www-form-urlencoded"} if method == "POST" else {}
        try:
            async with self.client.stream(method, address, content=body.encode(), headers=headers) as response:
                pieces, size = [], 0
                async for piece in response.aiter_bytes():
                    pieces.append(piece)
                    size += len(piece)
                    if size > LARGEST_PAGE:
                        raise Lost(TOO_LARGE)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
            raise Lost("the address cannot be read") from None
        except httpx2.RequestError as error:
            raise EnvironmentFailed(f"the shop did not answer ({type(error).__name__})") from error
        if response.status_code >= 500:
            raise EnvironmentFailed(f"the shop failed with status {response.status_code}")
        target = response.headers.get("location", "") if 300 <= response.status_code < 400 else ""
        return response.status_code, target, b"".join(pieces).decode(errors="replace")


def inputs(button: Element, entered: Mapping[int, str], page: Page) -> list[tuple[str, str]]:
    """Name and value of each field and selection of the button's form."""
    found = []
    for part in page.elements.values():
        if part.form is not button.form or part.kind not in ("field", "selection") or not part.name:
            continue
        value = entered.get(part.number, part.value)
        found.append((part.name, dict(part.options).get(value, value) if part.kind == "selection" else value))
    return found
