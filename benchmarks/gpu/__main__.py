"""The command line: python -m benchmarks.gpu [--lane NAME ...] [--toy --device cpu]"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu import lanes, work
from benchmarks.gpu.device import Machine, measured
from benchmarks.gpu.lanes import Result
from benchmarks.processes import OUT
from posttrain.core.errors import EnvironmentFailed, PosttrainError, PromiseBroken

CHOICES = {True: lanes.TOY_LANES, False: lanes.LANES}
HEADS = ("lane", "model", "tokens/s", "other's", "measure", "value", "to reach", "memory")


def cells(result: Result) -> tuple[str, ...]:
    wanted = ""
    if result.target is not None:
        wanted = f"{result.target:g}: " + ("reached" if result.value >= result.target else "missed")
    return (
        result.lane,
        result.model,
        f"{result.rate:,.0f}",
        f"{result.other:,.0f}" if result.other is not None else "",
        result.measure,
        f"{result.value:.3g}",
        wanted,
        f"{result.peak_gb:.1f} GiB" if result.peak_gb else "",
    )


def table(results: list[Result]) -> str:
    rows = [HEADS, *map(cells, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def machine_of(asked: argparse.Namespace) -> Machine:
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise EnvironmentFailed("This benchmark needs a CUDA GPU and finds none.", fix="Try its code out with --toy --device cpu.")
    return measured(torch.device(asked.device))


def run(asked: argparse.Namespace) -> None:
    """The lanes in order; none is begun in the last minute. What one lane cannot do keeps no other from being measured."""
    began, machine = time.perf_counter(), machine_of(asked)
    peak, bandwidth = machine.peak / 1e12, machine.bandwidth / 1e9
    say(f"{machine.name}: {peak:.3g} TFLOP/s in bf16 ({machine.source}), {bandwidth:.4g} GB/s (measured)")
    results: list[Result] = []
    broken: list[PromiseBroken] = []
    for lane, model, target in [each for each in CHOICES[asked.toy] if not asked.lane or each[0] in asked.lane]:
        if time.perf_counter() - began > 60 * (asked.minutes - 1):
            say(f"{lane} {model}: not measured, the time is up")
            continue
        try:
            results.append(lanes.measure(lane, model, target, work.TOY if asked.toy else work.FULL, machine))
            say(f"{lane} {model}: {results[-1].measure} {results[-1].value:.3g}")
        except torch.OutOfMemoryError:
            say(f"{lane} {model}: not measured, it does not fit into this GPU's memory")
        except PromiseBroken as error:
            say(f"{lane} {model}: not measured. {error}")
            broken.append(error)
    place = Path(asked.out) if asked.out else OUT / ("gpu-toy.json" if asked.toy else "gpu.json")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(record(machine, results), indent=1) + "\n")
    say("\n" + table(results))
    if broken:
        raise broken[0]


def record(machine: Machine, results: list[Result]) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "machine": {**dataclasses.asdict(machine), "device": str(machine.device)},
        "results": [dataclasses.asdict(result) for result in results],
    }


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure one GPU, lane by lane.")
    parser.add_argument("--lane", action="append", choices=sorted(lanes.RUNS), help="may be given several times; all without it")
    parser.add_argument("--minutes", type=float, default=8, help="after which nothing is begun any more (default 8)")
    parser.add_argument("--toy", action="store_true", help="all lanes on a toy model: shows that they run")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu only with --toy")
    parser.add_argument("--out", help="instead of benchmarks/out/gpu.json")
    asked = parser.parse_args(arguments)
    if asked.device == "cpu" and not asked.toy:
        parser.error("--device cpu goes with --toy only: on a CPU, `python -m benchmarks` is the benchmark")
    try:
        run(asked)
    except PosttrainError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
