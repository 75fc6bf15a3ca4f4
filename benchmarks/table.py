"""Results -> rows: the ratio to each peer with its interval, the rates, the memory, the share of the bound."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lanes import LANES, Lane
from benchmarks.statistics import Ratio, log_ratio, ratio


@dataclass(frozen=True)
class Line:
    """Ours beside one peer in one lane. `share` is ours of the bound; `memory` is our peak over theirs."""

    lane: str
    title: str
    peer: str
    unit: str
    ours: float
    theirs: float
    ratio: Ratio
    memory: Ratio
    our_gb: float
    their_gb: float
    share: float | None
    reach: float | None

    @property
    def verdict(self) -> str:
        """Whether the whole interval is where it should be."""
        if self.reach is None:
            return ""
        return "reached" if self.ratio.value >= self.reach else "behind"


def of(block: Mapping[str, Any], arm: str, key: str) -> list[float]:
    """One figure of an arm's runs in a block; `cost` is seconds a unit."""
    runs = [run for run in block["runs"] if run["arm"] == arm]
    return [run["seconds"] / run["work"] if key == "cost" else run[key] for run in runs]


def share_of_bound(results: Mapping[str, Any], arm: str = "ours") -> float | None:
    """The median over blocks of the bound's time over the arm's."""
    shares = [
        block["roofline"]["seconds"] / block["roofline"]["work"] / statistics.fmean(of(block, arm, "cost"))
        for block in results["blocks"]
        if block["roofline"]
    ]
    return statistics.median(shares) if shares else None


def lines(results: Mapping[str, Any], lane: Lane) -> list[Line]:
    ours, *peers = lane.arms
    blocks = results["blocks"]
    found = []
    for peer in peers:
        if not all(of(block, peer, "cost") for block in blocks):
            continue

        def rate(arm: str) -> float:
            return 1 / statistics.median(value for block in blocks for value in of(block, arm, "cost"))

        def peak(arm: str) -> float:
            return max(value for block in blocks for value in of(block, arm, "peak_gb"))

        costs = ratio([log_ratio(of(block, ours, "cost"), of(block, peer, "cost")) for block in blocks])
        memory = ratio([log_ratio(of(block, peer, "peak_gb"), of(block, ours, "peak_gb")) for block in blocks])
        share, reach = share_of_bound(results), lane.reach.get(peer)
        found.append(
            Line(
                results["lane"],
                lane.title,
                peer,
                lane.unit,
                rate(ours),
                rate(peer),
                costs,
                memory,
                peak(ours),
                peak(peer),
                share,
                reach,
            )
        )
    return found


HEADS = ("lane", "peer", "ours /s", "peer /s", "ratio (95 %)", "reach", "memory", "of bound")


def cells(line: Line) -> tuple[str, ...]:
    found = line.ratio
    return (
        line.lane,
        line.peer,
        f"{line.ours:.4g}",
        f"{line.theirs:.4g}",
        f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})",
        f"{line.reach:g} {line.verdict}" if line.reach else "",
        f"{line.memory.value:.2f} ({line.our_gb:.1f}/{line.their_gb:.1f} GiB)",
        f"{line.share:.0%}" if line.share is not None else "",
    )


def text(rows: Sequence[Sequence[str]]) -> str:
    """Rows under HEADS, in columns."""
    table = [HEADS, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Of all lanes that have at least one whole block."""
    return text([cells(line) for name, results in found.items() if results["blocks"] for line in lines(results, LANES[name])])
