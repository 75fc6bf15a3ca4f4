"""A visit to one site: what the tools goto, click, fill, select and read do, over either transport.

Everything that comes from the model is checked here: addresses of other origins and other schemes, elements that are not on the
page, texts without end. What cannot be done is a Mistake that the model reads. A redirect that leaves the site, or never ends,
gives no page: the visit returns to where it was, with nothing entered. No tool evaluates script.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from posttrain.environments.tools import MOST_CHARACTERS, Mistake
from posttrain.environments.web.page import Element, Page, read_page, written

LONGEST_ADDRESS = 1000
LONGEST_TEXT = 300
MOST_REDIRECTS = 10
LARGEST_PAGE = 1 << 20
OFF_SITE = "the page leads off this shop; it was not followed"
ENDLESS = "the page led on to others without end; it was given up"
TOO_LARGE = "the page is too large to be shown"
PART = MOST_CHARACTERS - 200
"""Characters of a page shown at once; the rest is read in parts."""


@dataclass(frozen=True)
class Loaded:
    """What a transport brings back: where it is now, and the HTML it was sent."""

    address: str
    html: str


class Lost(Exception):
    """No page came: a redirect without end or off the site, or a page that is too large. The text is for the model."""


class Transport(Protocol):
    """Fetches pages of one origin. Elements are those of the page that it brought last."""

    async def open(self, address: str) -> Loaded: ...

    async def click(self, element: Element, entered: Mapping[int, str], page: Page) -> Loaded: ...

    async def fill(self, element: Element, text: str) -> None: ...

    async def choose(self, element: Element, label: str) -> None: ...

    async def close(self) -> None: ...


class Visit:
    """The visitor's state: the page at hand and what has been entered in it."""

    def __init__(self, transport: Transport, origin: str) -> None:
        self.transport, self.origin = transport, origin
        self.address = origin + "/"
        self.page = Page("", ())
        self.entered: dict[int, str] = {}

    async def goto(self, address: str) -> str:
        return await self.arrive(self.transport.open(self.own(address)))

    async def click(self, number: int) -> str:
        element = self.element(number)
        if element.kind not in ("link", "button"):
            use = "fill" if element.kind == "field" else "select"
            raise Mistake(f"element {number} is a {element.kind}; use {use}")
        if element.kind == "link":
            self.own(element.target)
        return await self.arrive(self.transport.click(element, self.entered, self.page))

    async def fill(self, number: int, text: str) -> str:
        element = self.element(number)
        if element.kind != "field":
            raise Mistake(f"element {number} is a {element.kind} and cannot be filled")
        if len(text) > LONGEST_TEXT:
            raise Mistake(f"the text has {len(text)} characters; at most {LONGEST_TEXT} can be filled in")
        if not text.isprintable():
            raise Mistake("the text must be one line of printable characters")
        await self.transport.fill(element, text)
        self.entered[number] = text
        return f'element {number} is now "{text}"'

    async def select(self, number: int, option: str) -> str:
        element = self.element(number)
        if element.kind != "selection":
            raise Mistake(f"element {number} is a {element.kind} and has no options")
        labels = [label for label, _ in element.options]
        if option not in labels:
            raise Mistake(f"element {number} has no such option; options: {', '.join(labels)}")
        await self.transport.choose(element, option)
        self.entered[number] = option
        return f"element {number} is now {option}"

    def read(self, part: int = 1) -> str:
        """The page at hand; long ones in parts, cut between lines."""
        pieces = parted(written(self.page, self.entered))
        if not 1 <= part <= len(pieces):
            raise Mistake(f"this page has {len(pieces)} part{'s' if len(pieces) > 1 else ''}")
        more = f"\n(part {part} of {len(pieces)}; read the next with part {part + 1})" if part < len(pieces) else ""
        place = urlsplit(self.address)
        return f"{place.path}{'?' * bool(place.query)}{place.query}\n{pieces[part - 1]}{more}"[:MOST_CHARACTERS]

    async def arrive(self, coming: object) -> str:
        try:
            loaded = await coming  # type: ignore[misc]
        except Lost as lost:
            self.entered = {}
            raise Mistake(str(lost)) from None
        self.address, self.page, self.entered = loaded.address, read_page(loaded.html), {}
        return self.read()

    def element(self, number: int) -> Element:
        found = self.page.elements.get(number)
        if found is None:
            raise Mistake(f"there is no element {number} on this page; it has {len(self.page.elements)}")
        return found

    def own(self, address: str) -> str:
        """The whole address, if it is one of this site's. Raises Mistake for any other."""
        if len(address) > LONGEST_ADDRESS:
            raise Mistake(f"the address has {len(address)} characters; at most {LONGEST_ADDRESS}")
        if not address.isprintable() or "\\" in address or " " in address.strip():
            raise Mistake("the address has characters that no address has")
        whole = joined(self.address, address.strip())
        if not within(whole, self.origin):
            raise Mistake("only pages of this shop can be opened; write an address such as /cart")
        return whole


def joined(base: str, address: str) -> str:
    try:
        return urljoin(base, address).split("#")[0]
    except ValueError:
        raise Mistake("the address cannot be read") from None


def within(address: str, origin: str) -> bool:
    """Whether an address is of this origin: scheme, host and port, with no name or password before the host."""
    try:
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.netloc}" == origin
    except ValueError:
        return False


def parted(text: str) -> list[str]:
    """The text in pieces of at most PART characters, cut between lines."""
    pieces = [""]
    for line in text.split("\n"):
        line = line[:PART]
        if len(pieces[-1]) + len(line) + 1 > PART:
            pieces.append("")
        pieces[-1] += line + "\n"
    return [piece.rstrip("\n") for piece in pieces]
