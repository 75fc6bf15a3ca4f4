"""The command line: run lanes, look at one program, show what is there.

python -m benchmarks [--lane NAME ...] [--blocks N] [--quick]    measure; goes on where it stopped
python -m benchmarks look LANE ARM                               one run of one program, kept nowhere
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks import curves, growth, processes, protocol, report, table
from benchmarks.cases import LENGTHS, case_file
from benchmarks.lanes import LANES
from benchmarks.protocol import Session


def session_of(asked: argparse.Namespace) -> Session:
    from posttrain.models.load import resolve

    out = Path(asked.out) if asked.out else processes.OUT
    folder = out / "quick" if asked.quick else out
    folder = folder if asked.model == MODEL else folder / Path(asked.model).name
    return Session(folder.resolve(), resolve(asked.model), asked.blocks, asked.seconds, asked.quick, say)


def say(text: str) -> None:
    print(text, flush=True)


MODEL = "smollm2-135m-instruct"


def measure(asked: argparse.Namespace) -> None:
    """The lanes in order; what one lane cannot do does not keep the others from being measured."""
    session = session_of(asked)
    found: dict[str, Any] = {}
    failed: list[str] = []
    for name in asked.lane or [name for name, lane in LANES.items() if lane.quick or not asked.quick]:
        try:
            found[name] = protocol.measure(name, LANES[name], session)
            say("\n" + table.table({name: found[name]}) + "\n")
        except (processes.WorkerFailed, protocol.NotTheSame) as error:
            failed.append(name)
            say(str(error))
    say(table.table(found))
    report.write_figure({**stored(session.out), **found}, session.out / "ratios.svg")
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def stored(out: Path) -> dict[str, Any]:
    """All lanes' results that are there, in the lanes' order."""
    return {name: json.loads(place.read_text()) for name in LANES if (place := out / f"{name}.json").exists()}


def look(asked: argparse.Namespace) -> None:
    """One run of one program, and its share of the bound: for whoever makes it faster."""
    session, lane = session_of(asked), LANES[asked.names[0]]
    work = protocol.Work("look", lane, session, protocol.sized_case(lane, session))
    arm = protocol.candidates(lane.arms[asked.names[1]], quick=True)[0]
    record = work.arm(asked.names[1], arm, seconds=lane.seconds if asked.seconds is None else asked.seconds)
    say(json.dumps({key: value for key, value in record.items() if key not in (*protocol.LEFT_OUT, "laps")}, indent=1))
    say(f"{asked.names[1]}: {protocol.rate_text(record, lane)}, {record['peak_gb']:.2f} GiB")
    if lane.bound:
        bound = work.start("roofline", "ours", "roofline", bound=lane.bound, settings=dict(arm.settings))
        say(f"bound: {protocol.rate_text(bound, lane)}; share {protocol.cost(bound) / protocol.cost(record):.0%}")


def long_gate(asked: argparse.Namespace) -> None:
    say(json.dumps(curves.compare(session_of(asked)), indent=1))


def grow(asked: argparse.Namespace) -> None:
    session = session_of(asked)
    for name in asked.names or growth.AXES:
        say(growth.text(growth.measure(name, session)))


def write_report(asked: argparse.Namespace) -> None:
    session = session_of(asked)
    place = processes.ROOT / "benchmarks" / "RESULTS.md" if not asked.out else session.out / "RESULTS.md"
    report.write(stored(session.out), session.out, place)
    say(f"written: {place}")


def lengths(asked: argparse.Namespace) -> None:
    """Let the model answer the prompts as long as it likes and keep how long each answer was."""
    session = session_of(asked)
    case = case_file("generation", session.model, session.out / "cases", prompts=32, samples=8, new=1)
    work = protocol.Work("lengths", LANES["rollouts-256"], session, case)
    found = work.start("natural-lengths", "ours", "ours", settings={"limit": LONGEST})["lengths"]
    about = (
        f"tokens of 256 answers of {asked.model} at temperature 1, 8 to each of 32 prompts of benchmarks/cases.py, cut at {LONGEST}"
    )
    LENGTHS.write_text(json.dumps({"about": about, "lengths": found}) + "\n")
    say(f"{len(found)} lengths, {min(found)} to {max(found)}, {sum(found) / len(found):.1f} on the mean")


COMMANDS = {"look": look, "gate": long_gate, "growth": grow, "report": write_report, "lengths": lengths}
LONGEST = 160


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=sorted(COMMANDS), help="nothing to measure")
    parser.add_argument("names", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--lane", action="append", choices=sorted(LANES), help="may be given several times; all lanes without it")
    parser.add_argument("--blocks", type=int, help="of every lane; a lane has its own number otherwise")
    parser.add_argument("--seconds", type=float, help="least time measured in each run")
    parser.add_argument("--quick", action="store_true", help="one short block of a few lanes: shows that it runs")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--out", help="instead of benchmarks/out")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a worker that runs is ended too
    try:
        COMMANDS[asked.command](asked) if asked.command else measure(asked)
    except (processes.WorkerFailed, protocol.NotTheSame) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
