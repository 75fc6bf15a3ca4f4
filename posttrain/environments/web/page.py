"""A page as the model sees it: its text, with a number before each link, button, field and selection.

Parsed from the HTML that the server sent, by the standard library's parser; scripts and styles are left out. Numbers follow the
document's order, so the same page has the same numbers over every transport. Assumes plain pages: what a script would draw is
not seen, and hidden inputs belong to their form and have no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Literal

Kind = Literal["link", "button", "field", "selection"]

NEW_LINE = {"body", "div", "footer", "form", "h1", "h2", "h3", "header", "li", "main", "p", "section", "table", "tr", "ul"}
NO_VALUE = "\0"
"""Of an option that has no value of its own: its label stands for it."""
UNSEEN = {"head", "script", "style", "template"}
SELECTOR = "a[href], button, input:not([type=hidden]), select, textarea"
"""The numbered elements for a browser, in the order in which they are numbered here."""


@dataclass
class Form:
    action: str
    method: str
    hidden: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Element:
    """`value` is what stands in a field or is chosen in a selection when the page arrives, `options` what can be chosen."""

    number: int
    kind: Kind
    name: str = ""
    label: str = ""
    value: str = ""
    target: str = ""
    form: Form | None = None
    options: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """`parts` are texts and elements in reading order; a text that begins with a newline begins a line."""

    title: str
    parts: tuple[str | Element, ...]

    @property
    def elements(self) -> dict[int, Element]:
        return {part.number: part for part in self.parts if isinstance(part, Element)}


class Reader(HTMLParser):
    """Collects the parts of a page while the parser walks through it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str | Element] = []
        self.title = ""
        self.inside: list[str] = []
        self.form: Form | None = None
        self.open: Element | None = None
        self.option: tuple[str, bool] | None = None
        self.count = 0

    def element(self, kind: Kind, given: Mapping[str, str], value: str = "", target: str = "") -> Element:
        self.count += 1
        made = Element(self.count, kind, given.get("name", ""), value=value, target=target, form=self.form)
        self.parts.append(made)
        return made

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag in UNSEEN or tag == "title":
            self.inside.append(tag)
        if tag in NEW_LINE:
            self.parts.append("\n")
        if tag == "form":
            self.form = Form(given.get("action", ""), given.get("method", "get").lower())
        elif tag == "input" and given.get("type") == "hidden":
            if self.form is not None:
                self.form.hidden.append((given.get("name", ""), given.get("value", "")))
        elif tag == "input":
            self.element("field", given, value=given.get("value", ""))
        elif tag == "textarea":
            self.open = self.element("field", given)
        elif tag == "a" and "href" in given:
            self.open = self.element("link", given, target=given["href"])
        elif tag == "button":
            self.open = self.element("button", given)
        elif tag == "select":
            self.open = self.element("selection", given)
        elif tag == "option":
            self.option = (given.get("value", NO_VALUE), "selected" in given)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            self.inside.remove(tag)
        if tag in ("a", "button", "select", "textarea"):
            self.open = None
        elif tag == "form":
            self.form = None
            self.parts.append("\n")
        elif tag == "option":
            self.option = None

    def handle_data(self, data: str) -> None:
        text = plain(data)
        if "title" in self.inside:
            self.title += text
        elif set(self.inside) & UNSEEN or not text.strip():
            return
        elif self.open is None:
            self.parts.append(text)
        elif self.option is not None and self.open.kind == "selection":
            value, selected = self.option
            label = text.strip()
            self.open.options.append((label, label if value == NO_VALUE else value))
            if selected or not self.open.value:
                self.open.value = label
        elif self.open.kind == "field":
            self.open.value += text
        else:
            self.open.label = f"{self.open.label} {text.strip()}".strip()


def plain(text: str) -> str:
    """One line without characters that control a terminal or are not shown."""
    words = " ".join(text.split())
    lead, end = " " * text[:1].isspace(), " " * text[-1:].isspace()
    return lead + "".join(letter for letter in words if letter.isprintable()) + end


def read_page(html: str) -> Page:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return Page(reader.title.strip(), tuple(reader.parts))


def written(page: Page, entered: Mapping[int, str]) -> str:
    """The page as text. `entered` is what was typed or chosen since it arrived, by element number."""
    text = "".join(part if isinstance(part, str) else f" {shown(part, entered)} " for part in page.parts)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def shown(element: Element, entered: Mapping[int, str]) -> str:
    value = entered.get(element.number, element.value)
    match element.kind:
        case "link":
            return f"[{element.number}] {element.label}"
        case "button":
            return f"[{element.number}] ({element.label})"
        case "selection":
            return f"[{element.number}] <{value}: {', '.join(label for label, _ in element.options)}>"
        case _:
            return f'[{element.number}] "{plain(value)}"'
