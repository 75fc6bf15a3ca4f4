"""When a completion is over, and what its text is.

Stop strings are matched on decoded text, because one may span several tokens or end inside one; the text is cut before
the string and the tokens stay as the model wrote them. Only the last tokens are decoded at each step: enough for the
longest stop string at one byte a token. A match hidden by tokens without text is found at the end, on the whole text.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container
from typing import TypeAlias

from posttrain.core.types import Finish

Decode: TypeAlias = "Callable[[array[int]], str]"


def before_stop(text: str, stop: tuple[str, ...]) -> str | None:
    """The text before the first stop string in it; None if there is none."""
    places = [place for place in map(text.find, stop) if place >= 0]
    return text[: min(places)] if places else None


def ending(
    tokens: array[int], limit: int, stop: tuple[str, ...], stop_ids: Container[int], decode: Decode
) -> tuple[Finish, str] | None:
    """How and with which text a completion ends at its newest token; None if it goes on."""
    by_token, full = tokens[-1] in stop_ids, len(tokens) >= limit
    if not (by_token or full):
        window = 4 * max(map(len, stop), default=0) + 8
        if not stop or before_stop(decode(tokens[-window:]), stop) is None:
            return None
    text = decode(tokens[:-1] if by_token else tokens)
    cut = before_stop(text, stop)
    if cut is not None:
        return "stop", cut
    if by_token or full:
        return ("stop" if by_token else "length"), text
    return None
