"""Plain values as text: the only thing that crosses between a tester and a worker.

Exact built-in types and nothing else, so that an object with a lying `__eq__` cannot cross; sizes and depths are capped; no
pickle. A list is ["l", ...], a big number ["i", hex], an object that stays where it is ["h", number, ...]. Either side raises
Unsupported for what has no such form; the reader also for text that is no such value.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Plain = Any
    Lend = Callable[[Any], list[Any]]
    Lent = Callable[[list[Any]], Any]

DEEPEST = 100
LONGEST = 16 << 20
"""Bytes of one message."""
SMALL = 1 << 53


class Unsupported(Exception):
    """A value that is not plain, or text that stands for none."""


class Gone(Exception):
    """The other side closed its end, or says too much."""


def refuse(value: Any) -> list[Any]:
    raise Unsupported(f"{type(value).__name__} is not a plain value")


def unknown(form: list[Any]) -> Any:
    raise Unsupported(f"no value has the tag {str(form[:1])[:40]}")


SEQUENCES: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "z"}
BUILT = {tag: kind for kind, tag in SEQUENCES.items()}


def form(value: Any, lend: Lend = refuse, depth: int = 0) -> Plain:
    """The JSON form of a value. `lend` gives the form of what is not plain."""
    kind = type(value)
    if depth > DEEPEST:
        raise Unsupported(f"values nested more than {DEEPEST} deep")
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -SMALL < value < SMALL else ["i", hex(value)]
    if kind is float:
        return ["f", value.hex()]
    if kind is complex:
        return ["c", value.real.hex(), value.imag.hex()]
    if kind is bytes:
        return ["b", value.hex()]
    if kind in SEQUENCES:
        return [SEQUENCES[kind], *(form(item, lend, depth + 1) for item in value)]
    if kind is dict:
        return ["d", *([form(key, lend, depth + 1), form(item, lend, depth + 1)] for key, item in value.items())]
    return lend(value)


def value(given: Plain, lent: Lent = unknown, depth: int = 0) -> Any:
    """The value of a JSON form; exact built-in types, or what `lent` makes of another tag."""
    if depth > DEEPEST:
        raise Unsupported(f"values nested more than {DEEPEST} deep")
    if given is None or type(given) in (bool, str, int):
        return given
    if type(given) is not list or not given or type(given[0]) is not str:
        raise Unsupported(f"{type(given).__name__} is no form of a value")
    tag, rest = given[0], given[1:]
    if tag in BUILT:
        return BUILT[tag](value(item, lent, depth + 1) for item in rest)
    if tag == "d":
        return {value(key, lent, depth + 1): value(item, lent, depth + 1) for key, item in rest}
    if tag in SCALARS:
        return SCALARS[tag](*rest)
    return lent(given)


SCALARS: dict[str, Callable[..., Any]] = {
    "i": lambda text: int(text, 16),
    "f": lambda text: float.fromhex(text),
    "c": lambda real, imaginary: complex(float.fromhex(real), float.fromhex(imaginary)),
    "b": lambda text: bytes.fromhex(text),
}


class Channel:
    """Messages over two descriptors, one JSON line each. `exchange` is the tester's side; the worker reads and writes."""

    def __init__(self, reads: int, writes: int) -> None:
        self.reads, self.writes, self.unread = reads, writes, bytearray()

    def write(self, message: Any) -> None:
        try:
            line = json.dumps(message).encode() + b"\n"
        except (RecursionError, ValueError) as problem:
            raise Unsupported(f"a value that cannot be written: {problem}") from None
        if len(line) > LONGEST:
            raise Unsupported(f"a message of {len(line)} bytes; {LONGEST} is the limit")
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self.writes, left) :]
        except OSError:
            raise Gone("the other side is gone") from None

    def read(self) -> Any:
        """The next message. Raises Gone at the end, and for a line that is no JSON, is too long or too deep."""
        while (end := self.unread.find(b"\n")) < 0:
            if len(self.unread) > LONGEST:
                raise Gone(f"a reply of more than {LONGEST} bytes")
            piece = os.read(self.reads, 1 << 18)
            if not piece:
                raise Gone("the program ended")
            self.unread += piece
        line = bytes(self.unread[:end])
        del self.unread[: end + 1]
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise Gone("a reply that is no message") from None
