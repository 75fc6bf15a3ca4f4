"""The command line: run lanes, look at one program, show what is there.

python -m benchmarks [--lane NAME ...] [--blocks N] [--quick]    measure; goes on where it stopped
python -m benchmarks look LANE ARM                               one run of one program, kept nowhere
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import processes, protocol, table
from benchmarks.cases import case_file
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
    session = session_of(asked)
    found: dict[str, Any] = {}
    for name in asked.lane or LANES:
        found[name] = protocol.measure(name, LANES[name], session)
        say("\n" + table.table({name: found[name]}) + "\n")
    say(table.table(found))


def look(asked: argparse.Namespace) -> None:
    """One run of one program, and its share of the bound: for whoever makes it faster."""
    session, lane = session_of(asked), LANES[asked.look[0]]
    arm = lane.arms[asked.look[1]]
    case = case_file(lane.case, session.model, session.out / "cases", **lane.sizes)
    settings = {**arm.settings, **(arm.tuning[0] if arm.tuning else {})}
    given = {"case": str(case), "settings": settings, "seconds": lane.seconds if asked.seconds is None else asked.seconds}
    record = processes.run(arm.worker, arm.python, given, session.out / "work" / "look")
    say(json.dumps({key: value for key, value in record.items() if key not in ("curve", "laps")}, indent=1))
    say(f"{asked.look[1]}: {protocol.rate_text(record, lane)}, {record['peak_gb']:.2f} GiB")
    if lane.bound:
        bound = processes.run("roofline", "ours", {**given, "bound": lane.bound}, session.out / "work" / "look")
        say(f"bound: {protocol.rate_text(bound, lane)}; share {protocol.cost(bound) / protocol.cost(record):.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("look", nargs="*", help="look LANE ARM")
    parser.add_argument("--lane", action="append", choices=sorted(LANES))
    parser.add_argument("--blocks", type=int, help="of every lane; a lane has its own number otherwise")
    parser.add_argument("--seconds", type=float, help="least time measured in each run")
    parser.add_argument("--quick", action="store_true", help="one short block of the SFT and generation lanes")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--out", help="instead of benchmarks/out")
    asked = parser.parse_args()
    try:
        if asked.look and asked.look[0] == "look":
            asked.look = asked.look[1:]
            look(asked)
        else:
            measure(asked)
    except (processes.WorkerFailed, protocol.NotTheSame) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
