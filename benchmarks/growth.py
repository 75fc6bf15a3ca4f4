"""How the cost of ours grows with the size of the work: one figure each, and the exponent of a fitted power law.

cost = c · size^e, fitted by least squares over the logarithms: e = 1 is a straight line, 2 a quadratic surprise. Fixed costs
pull e below 1 at small sizes, so the exponent of the last doubling or tenfold stands beside it. Every size runs in a fresh process.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.protocol import Session, keep


@dataclass(frozen=True)
class Axis:
    """What grows, at which sizes, and the words under the figure."""

    title: str
    size: str
    sizes: Sequence[int]


AXES: dict[str, Axis] = {
    "sequence": Axis("A training step over one row", "tokens of the row", (128, 256, 512, 1024, 2048, 4096)),
    "group": Axis("Sampling and training on one prompt's group", "samples of the group", (1, 2, 4, 8, 16, 32, 64)),
    "batch": Axis("A training step of SFT", "rows of the batch", (1, 2, 4, 8, 16, 32, 64)),
    "flight": Axis("Different prompts answered at once", "tasks in flight", (8, 16, 32, 64, 128, 256)),
    "rows": Axis("Reading, encoding and storing SFT data", "rows", (1_000, 10_000, 100_000, 1_000_000)),
}


def measure(name: str, session: Session) -> dict[str, Any]:
    """Runs the sizes that are missing; writes growth-<name>.json and .svg."""
    place = session.out / f"growth-{name}.json"
    results: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {"axis": name, "points": {}}
    for size in AXES[name].sizes:
        if str(size) not in results["points"]:
            given = {"axis": name, "size": size, "model": str(session.model)}
            record = session.run("growth", "ours", given, session.out / "work" / "growth" / name)
            results["points"][str(size)] = {key: record[key] for key in ("seconds", "peak_gb", "held_gb")}
            session.say(f"{name}: {size}: {record['seconds']:.3g} s, {record['peak_gb']:.2f} GiB")
            keep(place, results)
    results |= fitted(results["points"])
    keep(place, results)
    draw(results, place.with_suffix(".svg"))
    return results


def fitted(points: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The exponent over all sizes and over the last step of sizes."""
    sizes = sorted(points, key=int)
    x = [math.log(int(size)) for size in sizes]
    y = [math.log(points[size]["seconds"]) for size in sizes]
    return {"exponent": statistics.linear_regression(x, y).slope, "last_exponent": (y[-1] - y[-2]) / (x[-1] - x[-2])}


def text(results: Mapping[str, Any]) -> str:
    axis, points = AXES[results["axis"]], results["points"]
    sizes = sorted(points, key=int)
    times = ", ".join(f"{size}: {points[size]['seconds']:.3g} s" for size in sizes)
    ends = f"{points[sizes[0]]['held_gb']:.2f} to {points[sizes[-1]]['held_gb']:.2f} GiB held"
    return f"{axis.title} ({axis.size}): exponent {results['exponent']:.2f}, last {results['last_exponent']:.2f}; {times}; {ends}"


def draw(results: Mapping[str, Any], place: Path) -> None:
    """Time against size, both as logarithms, beside a straight line through the last point."""
    from matplotlib.figure import Figure

    axis, points = AXES[results["axis"]], results["points"]
    sizes = sorted(map(int, points))
    seconds = [points[str(size)]["seconds"] for size in sizes]
    figure = Figure(figsize=(4, 3), layout="constrained")
    plot = figure.subplots()
    plot.loglog(sizes, [seconds[-1] * size / sizes[-1] for size in sizes], color="0.7", linestyle="--", label="straight line")
    plot.loglog(sizes, seconds, marker="o", markersize=4, label=f"measured, exponent {results['exponent']:.2f}")
    plot.set(title=axis.title, xlabel=axis.size, ylabel="seconds")
    plot.legend(frameon=False, fontsize=8)
    figure.savefig(place, metadata={"Date": None})
