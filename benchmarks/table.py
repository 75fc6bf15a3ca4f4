"""Results -> lines: the ratio to each peer with its interval, the rates, the memory, the share of the bound."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lanes import LANES, Lane
from benchmarks.statistics import Ratio, log_ratio, ratio

CLEARLY = 1.05
"""The lower end of an interval that is called ahead."""


@dataclass(frozen=True)
class Line:
    """Ours beside one peer in one lane. `memory` is our peak over theirs; `share` is of the bound that our rate reaches."""

    lane: str
    peer: str
    unit: str
    ours: float
    theirs: float
    ratio: Ratio
    memory: Ratio
    our_gb: float
    their_gb: float
    share: float | None


def of(block: Mapping[str, Any], arm: str, key: str) -> list[float]:
    """One figure of an arm's runs in a block; `cost` is seconds a unit."""
    runs = [run for run in block["runs"] if run["arm"] == arm]
    if key == "cost":
        return [run["seconds"] / run["work"] for run in runs]
    return [run.get("command_peak_gb", run["peak_gb"]) for run in runs]


def share_of_bound(results: Mapping[str, Any], arm: str = "ours") -> float | None:
    """The median over blocks of the bound's time over the arm's."""
    shares = [
        block["roofline"]["seconds"] / block["roofline"]["work"] / statistics.fmean(of(block, arm, "cost"))
        for block in results["blocks"]
        if block["roofline"]
    ]
    return statistics.median(shares) if shares else None


def lines(results: Mapping[str, Any], lane: Lane) -> list[Line]:
    """One for each peer that took part in every block."""
    ours, *peers = lane.arms
    blocks = results["blocks"]
    present = [peer for peer in peers if blocks and all(of(block, peer, "cost") for block in blocks)]
    return [line(results, lane, ours, peer) for peer in present]


def line(results: Mapping[str, Any], lane: Lane, ours: str, peer: str) -> Line:
    blocks = results["blocks"]

    def rate(arm: str) -> float:
        return 1 / statistics.median(value for block in blocks for value in of(block, arm, "cost"))

    def peak(arm: str) -> float:
        return max(value for block in blocks for value in of(block, arm, "memory"))

    costs = ratio([log_ratio(of(block, ours, "cost"), of(block, peer, "cost")) for block in blocks])
    memory = ratio([log_ratio(of(block, peer, "memory"), of(block, ours, "memory")) for block in blocks])
    share = share_of_bound(results)
    return Line(results["lane"], peer, lane.unit, rate(ours), rate(peer), costs, memory, peak(ours), peak(peer), share)


def verdict(found: Ratio, reach: float | None) -> str:
    """Where the ratio lies: at or above what was to be reached, else ahead of the peer, not to be told apart from it, behind it;
    one block tells nothing apart, so it has reached or missed."""
    if reach is not None and found.value >= reach:
        return "reached"
    if found.blocks == 1:
        return "missed"
    if found.low > CLEARLY:
        return "ahead"
    return "behind" if found.high < 1 else "even"


def interval(found: Ratio) -> str:
    """In words; one block has none."""
    return "one block" if found.blocks == 1 else f"{found.low:.2f} to {found.high:.2f}"


HEADS = ("lane", "peer", "ours", "peer's", "unit", "ratio (95 %)", "to reach", "memory", "of bound")


def cells(found: Line, lane: Lane) -> tuple[str, ...]:
    reach, speed = lane.reach.get(found.peer), found.ratio
    wanted = f"{reach:.3g}: {verdict(speed, reach)}" if reach else ""
    if lane.at_most is not None:
        wanted = f"≤ {lane.at_most:g} s: " + ("reached" if 1 / found.ours <= lane.at_most else "missed")
    memory = f"{found.memory.value:.2f} ({found.our_gb:.1f} / {found.their_gb:.1f} GiB)"
    if lane.memory is not None:
        memory += f" ≤ {lane.memory:g}: " + ("reached" if found.memory.value <= lane.memory else "missed")
    share = f"{found.share:.0%}" if found.share is not None else ""
    if lane.share is not None and found.share is not None:
        share += f" ≥ {lane.share:.0%}: " + ("reached" if found.share >= lane.share else "missed")
    ratios = f"{speed.value:.2f} ({interval(speed)})"
    return (found.lane, found.peer, f"{found.ours:.4g}", f"{found.theirs:.4g}", f"{found.unit}/s", ratios, wanted, memory, share)


def rows(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Of all lanes with at least one whole block."""
    return [cells(each, LANES[name]) for name, results in found.items() for each in lines(results, LANES[name])]


def text(table: Sequence[Sequence[str]]) -> str:
    """Under HEADS, in columns."""
    all_rows = [HEADS, *table]
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(HEADS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in all_rows)


def markdown(table: Sequence[Sequence[str]], heads: Sequence[str] = HEADS) -> str:
    all_rows = [heads, ["---"] * len(heads), *table]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in all_rows)


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    return text(rows(found))
