"""What a document is, and an item: a document that has not been read yet, so that thousands can be shuffled unread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

UNKNOWN = "und"
"""The language of a text whose source does not say it (BCP 47's `undetermined`)."""


class Unreadable(Exception):
    """A document that cannot be used, and why: the reason is counted and the rest goes on."""


@dataclass(frozen=True, slots=True)
class Document:
    """A whole text, where it came from, and its language as the source names it (not looked at: a label, not a finding)."""

    origin: str
    text: str
    language: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Item:
    """A document to be read. `name` is its place in the order before shuffling; `read` raises Unreadable."""

    name: str
    read: Callable[[], Document]
