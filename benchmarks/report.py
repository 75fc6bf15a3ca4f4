"""What was measured, as a page and a figure: RESULTS.md and ratios.svg, from the files that the lanes left."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import curves, growth, table
from benchmarks.lanes import LANES
from benchmarks.protocol import our_code, shown

Found = Mapping[str, Mapping[str, Any]]

TICKS = (0.5, 1, 2, 4, 8, 16, 32)
"""Of the figure of ratios, a logarithmic axis."""

PROTOCOL = """Every lane runs ours and its peers in the same session. A block runs all programs forwards and then backwards,
each in a fresh process that warms up once. A block gives one paired log-ratio a peer; the ratio is how many times as long as
ours the peer takes for the same work, with a 95 % bootstrap interval over blocks. No run is left out. Work is counted in
useful units: tokens with a loss and different tokens of context, pairs, tokens written, whole steps; never padding, never a
prompt twice. Memory is the peak of the process, ours over the peer's. The share of the bound is of the time that the work's
matrix products, or the reading of weights and of keys and values, take at the best rates measured in the same block. Before
anything is timed, each program passes the parity gate: the case's ids, order and masks, bf16 products over fp32 trained
weights, and a first step whose loss and gradient norm are within 1 % of plain fp32 (rounds of sampling: the gradient norm,
within 5 %; generation: the likeliest first tokens)."""


def machine() -> str:
    """Processor, cores and memory, in words."""
    names = [line.partition(":")[2].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    memory = next((int(line.split()[1]) for line in read("/proc/meminfo").splitlines() if line.startswith("MemTotal")), 0)
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {memory / 2**20:.0f} GiB, {platform.system()}"


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def write(found: Found, out: Path, place: Path) -> None:
    """The page; the figures go beside it."""
    write_figure(found, place.with_name("ratios.svg"))
    place.write_text("\n".join(sections(found, out, place.parent)).rstrip() + "\n")


def sections(found: Found, out: Path, beside: Path) -> Iterator[str]:
    yield "# Results of the benchmarks\n"
    yield "Written by `python -m benchmarks report`; do not edit. `make bench` measures, and goes on where it stopped.\n"
    ended = [results["blocks"][-1]["ended"] for results in found.values() if results["blocks"]]
    if not ended:
        yield "Nothing has been measured yet."
        return
    yield f"- Measured: {min(results['started'] for results in found.values())} to {max(ended)}"
    yield f"- Machine: {machine()}; threads: {', '.join(sorted({r['fingerprint']['the threads'] for r in found.values()}))}"
    yield from codes(found)
    for name, versions in environments(found).items():
        yield f"- {name}: " + ", ".join(f"{library} {version}" for library, version in versions.items())
    yield f"\n{PROTOCOL}\n"
    yield table.markdown(table.rows(found)) + "\n"
    if absent := [name for name in LANES if not found.get(name, {}).get("blocks")]:
        yield f"Not measured: {', '.join(absent)}. `make bench LANE=...` measures one.\n"
    yield "![Ratios with their intervals](ratios.svg)\n"
    if control := found.get("aa"):
        spread = [each.ratio for each in table.lines(control, LANES["aa"])]
        yield from (
            f"A/A control: {r.value:.3f} ({r.low:.3f} to {r.high:.3f}); nothing closer to 1 than this is told apart.\n"
            for r in spread
        )
    yield from settings(found)
    yield from long_gate(out)
    yield from grown(out, beside)


def codes(found: Found) -> Iterator[str]:
    """Which lanes are of one state of our code, by a hash of what could change a rate."""
    lanes: dict[str, list[str]] = {}
    for name, results in found.items():
        if results["blocks"]:
            lanes.setdefault(results["fingerprint"]["our code"], []).append(name)
    for code, names in lanes.items():
        yield f"- Our code {code}{' (as it is now)' if code == our_code() else ' (changed since)'}: {', '.join(names)}"


def environments(found: Found) -> dict[str, dict[str, str]]:
    """Versions by environment, from the runs themselves."""
    versions: dict[str, dict[str, str]] = {}
    for name, results in found.items():
        for run in (run for block in results["blocks"] for run in block["runs"]):
            versions.setdefault(f"environment {LANES[name].arms[run['arm']].python}", run["versions"])
    return versions


def settings(found: Found) -> Iterator[str]:
    """What each program was run with, the sweeps, and who did not take part."""
    yield "## Settings of the programs\n"
    heads = ("lane", "program", "settings", "cost of a unit in the sweep", "parity")
    rows = []
    for name, results in found.items():
        for label, checks in results.get("checks", {}).items():
            for check in checks:
                chosen = "chosen: " if results["settings"].get(label) == check["settings"] and len(checks) > 1 else ""
                cost = f"{check['cost']:.4g} s" if "cost" in check else ""
                parity = "; ".join(check["wrong"]) or first_step(check) if LANES[name].reference else "nothing to compare"
                rows.append((name, label, " ".join((chosen + shown(check["settings"])).split()), cost, parity))
    yield table.markdown(rows, heads) + "\n"
    absent = [(name, label, why) for name, results in found.items() for label, why in results.get("skipped", {}).items()]
    yield "".join(f"- {name}: without {label}: {why}\n" for name, label, why in absent)


def first_step(check: Mapping[str, Any]) -> str:
    parts = [f"{key} {check[key]:.4f} (fp32 {value:.4f})" for key, value in check.get("reference", {}).items()]
    return ", ".join(parts) or "passed"


def long_gate(out: Path) -> Iterator[str]:
    yield "## Curves of 100 steps\n"
    if (found := curves.stored(out)) is None:
        yield "Not run: `python -m benchmarks gate`.\n"
        return
    between, ours, peer = (found[key]["median"] for key in ("between", "ours", "peer"))
    yield (
        f"SFT with LoRA, {found['steps']} steps, loss by loss: ours and TRL's differ by {between:.4f} in the median "
        f"({found['between']['largest']:.4f} at most); two equal runs of ours by {ours:.4f}, of TRL's by {peer:.4f}. "
        f"Allowed: {found['allowed']:.4f}. {'Passed' if found['passed'] else 'FAILED'}.\n"
    )


def grown(out: Path, beside: Path) -> Iterator[str]:
    yield "## How cost grows\n"
    made = [json.loads(place.read_text()) for name in growth.AXES if (place := out / f"growth-{name}.json").exists()]
    made = [results for results in made if "exponent" in results]
    if not made:
        yield "Not run: `python -m benchmarks growth`."
    for results in made:
        figure = beside / f"growth-{results['axis']}.svg"
        growth.draw(results, figure)
        yield f"- {growth.text(results)}\n\n  ![{growth.AXES[results['axis']].title}]({figure.name})\n"


def write_figure(found: Found, place: Path) -> None:
    """Every ratio as a point with its interval, or open where one block gives none, on a logarithmic axis with 1 marked."""
    from matplotlib.figure import Figure

    every = [each for name, results in found.items() for each in table.lines(results, LANES[name])]
    if not every:
        return
    figure = Figure(figsize=(7, 0.8 + 0.32 * len(every)), layout="constrained")
    plot = figure.subplots()
    places = range(len(every), 0, -1)
    for height, each in zip(places, every, strict=True):
        spread = [[each.ratio.value - each.ratio.low], [each.ratio.high - each.ratio.value]]
        if each.ratio.blocks == 1:
            plot.plot(each.ratio.value, height, "o", markersize=5, color="C0", fillstyle="none")
        else:
            plot.errorbar(each.ratio.value, height, xerr=spread, fmt="o", markersize=4, capsize=3, color="C0")
        if (reach := LANES[each.lane].reach.get(each.peer)) is not None:
            plot.plot(reach, height, marker="|", markersize=14, color="C3")
    plot.axvline(1, color="0.6", linewidth=1)
    plot.set_xscale("log")
    shown_range = plot.get_xlim()
    plot.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    plot.set_xticks([], minor=True)
    plot.set_xlim(shown_range)
    plot.set_yticks(list(places), [f"{each.lane}: {each.peer}" for each in every])
    plot.set_xlabel("times as fast as the peer (bar: to reach; open: one block)")
    figure.savefig(place, metadata={"Date": None})
