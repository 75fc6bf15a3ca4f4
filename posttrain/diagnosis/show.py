"""Values -> text for a person: percentages, intervals, durations, and model text made harmless to look at.

Model text is hostile. HTML escaping is the template's (jinja2 autoescape); here everything that could hide or reorder text is
made visible: control characters, bidirectional overrides, zero-width and tag characters, lone surrogates.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 20_000
FOLD_OVER = 420


def visible(value: object, longest: int = LONGEST) -> str:
    """Text with nothing hidden in it. Newlines and tabs stay; what is cut is said."""
    text = str(value)
    cut = f"\n⟨{len(text) - longest:,} more characters are in the records⟩" if len(text) > longest else ""
    return "".join(map(_character, text[:longest])) + cut


def _character(character: str) -> str:
    if character in "\n\t":
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the symbol of the control character: ␀ ␛ ␍
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or code == 0x00AD
    return f"⟨U+{code:04X}⟩" if hidden else character


def shared(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> int:
    """How many turns two conversations begin with in common: the question, before each goes its own way in an environment."""
    same = [one == other for one, other in zip(before, after, strict=False)]
    return same.index(False) if False in same else len(same)


def as_json(value: Any) -> str:
    """A call's arguments on one line."""
    return json.dumps(value, ensure_ascii=False)


def folded(text: str) -> str:
    """The beginning of a text that is too long to stand open; empty for a short one."""
    if len(text) <= FOLD_OVER and text.count("\n") <= 9:
        return ""
    first = "\n".join(text.splitlines()[:3])
    return first[:200].rstrip() + " …"


def percent(value: float | None, digits: int = 1) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    shown = math.floor(100 * value * 10**digits + 0.5) / 10**digits  # half up, as people round
    return f"{shown:.{digits}f} %"


def points(value: float | None) -> str:
    """A difference of two shares, in percentage points, with its sign."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:+.1f}".replace("-", "−")


def limits(estimate: Mapping[str, Any], *, signed: bool = False) -> str:
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None:
        return ""
    return f"{points(low)} to {points(high)}" if signed else f"{100 * low:.1f}–{100 * high:.1f}"


def probability(value: float | None) -> str:
    """A p-value, never more exact than it deserves."""
    if value is None:
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def number(value: object) -> str:
    """A plain number to three figures; NaN is said."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else visible(value)
    if not math.isfinite(value):
        return "not finite"
    return (f"{value:,}" if isinstance(value, int) else f"{value:.3g}").replace("-", "−")


def duration(seconds: float | None) -> str:
    if not seconds or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
