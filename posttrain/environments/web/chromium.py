"""The shop in a real browser: Playwright and the system's headless Chromium, for `browser: chromium`.

One browser for all episodes, one context each: nothing is shared between two visitors. Script is off in every context, downloads
are refused, and requests to anything but the episode's own origin are aborted; the name resolver knows no host but 127.0.0.1.
Needs the extra `browser` (Playwright without its own browser builds) and a Chromium on the search path. As root Chromium only
starts without its own sandbox; the pages it opens are ours.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from posttrain.core.errors import EnvironmentFailed, UserError
from posttrain.environments.web.page import SELECTOR, Element, Page
from posttrain.environments.web.visit import ENDLESS, LARGEST_PAGE, OFF_SITE, TOO_LARGE, Loaded, Lost, within

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Locator, Playwright, Route
    from playwright.async_api import Page as Tab

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 20_000
WINDOW = {"width": 900, "height": 640}
BLOCKED = ("ERR_FAILED", "ERR_ABORTED", "ERR_NAME_NOT_RESOLVED", "ERR_BLOCKED", "ERR_UNSAFE_REDIRECT")


def program() -> str:
    """Chromium's path. Raises UserError where it, or Playwright, is not there."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        fix = "Run `pip install 'posttrain[browser]'`, or set browser: http."
        raise UserError("browser is 'chromium', which needs Playwright.", fix=fix) from None
    found = next((path for path in map(shutil.which, PROGRAMS) if path), None)
    if found is None:
        fix = "Install it (Debian: apt install chromium), or set browser: http."
        raise UserError("browser is 'chromium', and there is no Chromium on the search path.", fix=fix)
    return found


class Chromium:
    """The browser that episodes share: started by the first that needs it, ended by `close`."""

    def __init__(self) -> None:
        self.starting = asyncio.Lock()
        self.playwright: Playwright | None = None
        self.browser: Browser | None = None

    async def visit(self, origin: str) -> Tabbed:
        from playwright.async_api import Error

        try:
            browser = await self.started()
            context = await browser.new_context(java_script_enabled=False, accept_downloads=False, viewport=WINDOW)  # type: ignore[arg-type]
        except Error as error:
            raise EnvironmentFailed(f"Chromium did not start: {first_line(error)}") from error
        context.set_default_timeout(TIMEOUT_MS)

        async def sieve(route: Route) -> None:
            await (route.continue_() if within(route.request.url, origin) else route.abort())

        await context.route("**/*", sieve)
        return Tabbed(context, await context.new_page(), origin)

    async def started(self) -> Browser:
        async with self.starting:
            if self.browser is None or not self.browser.is_connected():
                await self.end()
                await self.start()
            assert self.browser is not None
            return self.browser

    async def start(self) -> None:
        from playwright.async_api import async_playwright

        self.playwright = await async_playwright().start()
        flags = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-dev-shm-usage"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        self.browser = await self.playwright.chromium.launch(executable_path=program(), args=flags, timeout=TIMEOUT_MS)

    async def end(self) -> None:
        browser, self.browser = self.browser, None
        playwright, self.playwright = self.playwright, None
        if browser is not None:
            await browser.close()
        if playwright is not None:
            await playwright.stop()

    async def close(self) -> None:
        async with self.starting:
            await self.end()


class Tabbed:
    """One visitor's tab, as a transport."""

    def __init__(self, context: BrowserContext, tab: Tab, origin: str) -> None:
        self.context, self.tab, self.origin = context, tab, origin
        self.address = origin + "/"

    async def open(self, address: str) -> Loaded:
        from playwright.async_api import Error

        try:
            response = await self.tab.goto(address, wait_until="load")
        except Error as error:
            raise await self.lost(error) from None
        return await self.arrived(response.status if response else 200)

    async def click(self, element: Element, entered: Mapping[int, str], page: Page) -> Loaded:
        from playwright.async_api import Error

        try:
            async with self.tab.expect_navigation(wait_until="load") as coming:
                await self.located(element).click()
            response = await coming.value
        except Error as error:
            raise await self.lost(error) from None
        return await self.arrived(response.status if response else 200)

    async def fill(self, element: Element, text: str) -> None:
        await self.located(element).fill(text)

    async def choose(self, element: Element, label: str) -> None:
        await self.located(element).select_option(label=label)

    async def picture(self, path: Path) -> None:
        """A screenshot of the window, for documents and for looking into an episode."""
        await self.tab.screenshot(path=path)

    async def close(self) -> None:
        await self.context.close()

    def located(self, element: Element) -> Locator:
        return self.tab.locator(SELECTOR).nth(element.number - 1)

    async def arrived(self, status: int) -> Loaded:
        if not within(self.tab.url, self.origin):
            await self.back()
            raise Lost(OFF_SITE)
        if status >= 500:
            raise EnvironmentFailed(f"the shop failed with status {status}")
        html = await self.tab.content()
        if len(html) > LARGEST_PAGE:
            await self.back()
            raise Lost(TOO_LARGE)
        self.address = self.tab.url
        return Loaded(self.address, html)

    async def back(self) -> None:
        """To the last good page, in a new tab: the old one may still be on its way to the browser's own error page."""
        failed, self.tab = self.tab, await self.context.new_page()
        await failed.close()
        await self.tab.goto(self.address, wait_until="load")

    async def lost(self, error: Exception) -> Exception:
        """What a navigation that failed was: the page's doing, after which we go back, or the world's."""
        told = first_line(error)
        if "ERR_TOO_MANY_REDIRECTS" in told:
            await self.back()
            return Lost(ENDLESS)
        if any(code in told for code in BLOCKED):
            await self.back()
            return Lost(OFF_SITE)
        return EnvironmentFailed(f"the shop did not answer ({told})")


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
