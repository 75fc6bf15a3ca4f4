"""Text for a terminal: model text made harmless, tables, JSON."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def harmless(text: str) -> str:
    """Model text as it may be printed: escapes, other controls and direction overrides are written out, not obeyed."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else f"\\x{ord(c):02x}" for c in text
    )


def console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", right: Sequence[str] = ()) -> None:
    """A plain table; columns in `right` are numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(harmless(cell)) for cell in row))
    console().print(drawn)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def pass_at_one(measured: dict[str, Any]) -> str:
    """`62.5 % (54.1 to 70.2)`."""
    found = measured.get("pass@1") or {}
    if found.get("value") is None:
        return "-"
    limits = f" ({100 * found['low']:.1f} to {100 * found['high']:.1f})" if found.get("low") is not None else ""
    return percent(found["value"]) + limits


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
