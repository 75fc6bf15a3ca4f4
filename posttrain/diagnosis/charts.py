"""Small line charts as inline SVG whose colours follow the page's, light or dark.

matplotlib draws with placeholder colours; they are replaced by CSS variables, and its fonts by the page's. A value that is not
finite is a gap in the line with a mark on the axis: it is never joined over.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

INK, MUTED, GRID, BAD = "#010101", "#020202", "#030303", "#040404"
COLOURS = ("#0a0001", "#0a0002", "#0a0003", "#0a0004", "#0a0005", "#0a0006")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", BAD: "--bad"} | {c: f"--c{i + 1}" for i, c in enumerate(COLOURS)}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "posttrain",
    "text.parse_math": False,
    "axes.formatter.useoffset": False,
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": GRID,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.color": GRID,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "xtick.major.size": 2.5,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
}
SMOOTH_FROM = 60


@dataclass(frozen=True)
class Series:
    name: str
    steps: Sequence[float]
    values: Sequence[float]


def line_chart(
    label: str, lines: Sequence[Series], *, limit: float | None = None, share: bool = False, name: str = "chart"
) -> Markup:
    """One panel. `limit` draws a dashed line; `share` fixes the scale to 0–100 %; `name` must be unique in the page."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.5, 1.75))
        figure.patch.set_alpha(0)
        axes = figure.add_axes((0.115, 0.13, 0.865, 0.83))
        axes.patch.set_alpha(0)
        for line, colour in zip(lines, COLOURS, strict=False):
            _draw(axes, line, colour)
        if limit is not None:
            axes.axhline(limit, color=BAD, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.margins(x=0.02, y=0.12)
        if share:
            axes.set_ylim(-0.04, 1.04)
            axes.set_yticks([0, 0.5, 1])
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        else:
            _widen(axes, [value for line in lines for value in line.values if math.isfinite(value)])
            axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        buffer = io.StringIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(buffer.getvalue(), label, name)


def _draw(axes: Any, line: Series, colour: str) -> None:
    values = [value if math.isfinite(value) else math.nan for value in line.values]
    smooth = len(values) >= SMOOTH_FROM
    marker = "o" if len(values) <= 40 else None
    axes.plot(
        line.steps,
        values,
        color=colour,
        linewidth=0.8 if smooth else 1.5,
        alpha=0.35 if smooth else 1,
        marker=marker,
        markersize=2.2,
    )
    if smooth:
        axes.plot(line.steps, _rolling(values, max(5, len(values) // 20)), color=colour, linewidth=1.7)
    missing = [step for step, value in zip(line.steps, values, strict=True) if math.isnan(value)]
    if missing:
        axes.plot(missing, [0.02] * len(missing), "x", color=BAD, markersize=4, transform=axes.get_xaxis_transform(), clip_on=False)


def _widen(axes: Any, values: Sequence[float]) -> None:
    """Give a curve that hardly moves a scale on which it looks so."""
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    least = 0.04 * max(abs(low), abs(high))
    if high - low < least:
        middle = (low + high) / 2
        axes.set_ylim(middle - least, middle + least)


def _rolling(values: Sequence[float], window: int) -> list[float]:
    """Mean of the finite values around each step; a gap stays a gap."""
    means = []
    for i, value in enumerate(values):
        near = [v for v in values[max(0, i - window // 2) : i + window // 2 + 1] if math.isfinite(v)]
        means.append(sum(near) / len(near) if math.isfinite(value) else math.nan)
    return means


def _inline(svg: str, label: str, name: str) -> Markup:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 role="img" aria-label="{escape(label)}">', svg, count=1)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("xlink:href", "href")
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return Markup(re.sub(r"\n\s*", "\n", svg))
