"""Run a lane: the case, the sweep, the gate, then blocks; what is finished stays in a file and is never run again.

A block's order is forwards and then backwards (A B B A with two programs, A B C C B A with three), each in a fresh process.
A block counts once it is whole. The file also says what it was measured with: where our code, the case or a library has
changed since, the old file is set aside and the lane starts anew, so that no ratio mixes two programs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import gate, processes
from benchmarks.cases import case_file
from benchmarks.lanes import Arm, Lane

HOT = ("algorithms", "chat", "core", "generation", "models", "rollouts", "training")
"""Packages of posttrain that the measured programs spend their time in."""

Say = Callable[[str], None]
Run = Callable[[str, str, dict[str, Any], Path], dict[str, Any]]


@dataclass(frozen=True)
class Session:
    """Where files go, which model, how long. `run` starts a worker."""

    out: Path
    model: Path
    blocks: int | None = None
    seconds: float | None = None
    quick: bool = False
    say: Say = print
    run: Run = processes.run


class NotTheSame(Exception):
    """The parity gate failed: there is nothing to compare."""


def measure(name: str, lane: Lane, session: Session) -> dict[str, Any]:
    """The lane's results, all blocks done."""
    case = case_file(
        lane.case, session.model, session.out / "cases", **(dict(lane.quick) if session.quick and lane.quick else dict(lane.sizes))
    )
    place = session.out / f"{name}.json"
    results = opened(place, fingerprint(lane, case), session.say)
    results |= {"lane": name, "title": lane.title, "unit": lane.unit}
    arms = chosen(name, lane, case, results, place, session)
    if lane.reference and "gate" not in results:
        results["gate"] = passed(name, lane, arms, case, session)
        keep(place, results)
    wanted = session.blocks or (1 if session.quick else lane.blocks)
    for number in range(len(results["blocks"]), wanted):
        results["blocks"].append(block(name, lane, arms, case, session, f"{number + 1} of {wanted}"))
        keep(place, results)
    return results


def opened(place: Path, found: dict[str, str], say: Say) -> dict[str, Any]:
    """What is there already, if it was measured with the same things."""
    if place.exists():
        results: dict[str, Any] = json.loads(place.read_text())
        changed = [key for key, value in found.items() if results["fingerprint"].get(key) != value]
        if not changed:
            return results
        aside = place.with_suffix(f".{time.strftime('%Y%m%d-%H%M%S')}.old")
        place.rename(aside)
        say(f"{place.stem}: {' and '.join(changed)} changed since it was measured; the old results are in {aside.name}")
    return {"fingerprint": found, "started": time.strftime("%Y-%m-%d %H:%M:%S"), "blocks": []}


def keep(place: Path, results: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = place.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1))
    partial.rename(place)


def fingerprint(lane: Lane, case: Path) -> dict[str, str]:
    sources = [file for part in HOT for file in sorted((processes.ROOT / "posttrain" / part).rglob("*.py"))]
    programs = {name: [arm.worker, dict(arm.settings), [dict(each) for each in arm.tuning]] for name, arm in lane.arms.items()}
    return {
        "our code": hashed(file.read_bytes() for file in sources),
        "the case": hashed([case.read_bytes()]),
        "the programs": hashed([json.dumps(programs, sort_keys=True).encode()]),
        "the threads": str(processes.threads()),
    }


def hashed(parts: Any) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:12]


def specification(arm: Arm, case: Path, seconds: float, **more: Any) -> dict[str, Any]:
    return {"case": str(case), "settings": dict(arm.settings), "seconds": seconds, **more}


def chosen(name: str, lane: Lane, case: Path, results: dict[str, Any], place: Path, session: Session) -> dict[str, Arm]:
    """The arms with their settings: where a peer has settings to choose among, each is run once and the fastest kept."""
    arms = {}
    for label, arm in lane.arms.items():
        if arm.tuning:
            swept = results.setdefault("swept", {}).setdefault(label, [])
            tries = arm.tuning[:1] if session.quick else arm.tuning
            for settings in tries[len(swept) :] if len(tries) > 1 else ():
                tried = Arm(arm.worker, arm.python, {**arm.settings, **settings})
                record = attempt(name, label, tried, case, session)
                swept.append({"settings": dict(settings), "cost": record and cost(record), "peak_gb": record and record["peak_gb"]})
                session.say(f"{name}: {label} with {shown(settings)}: {rate_text(record, lane)}")
                keep(place, results)
            finished = [each for each in swept if each["cost"]]
            best = min(finished, key=lambda each: each["cost"])["settings"] if finished else dict(tries[0])
            arm = Arm(arm.worker, arm.python, {**arm.settings, **best})
        arms[label] = arm
    results["settings"] = {label: dict(arm.settings) for label, arm in arms.items()}
    return arms


def attempt(name: str, label: str, arm: Arm, case: Path, session: Session) -> dict[str, Any] | None:
    """A run of a sweep; one that fails is no candidate."""
    try:
        return session.run(arm.worker, arm.python, specification(arm, case, 1), session.out / "work" / name / label)
    except processes.WorkerFailed as failed:
        session.say(str(failed).splitlines()[-1])
        return None


def passed(name: str, lane: Lane, arms: Mapping[str, Arm], case: Path, session: Session) -> dict[str, Any]:
    """The parity gate. Raises NotTheSame."""
    assert lane.reference is not None
    expected = json.loads(case.read_text())["digest"]
    first = next(iter(arms.values()))
    folder = session.out / "work" / name
    reference = session.run(
        lane.reference, "ours", specification(Arm(lane.reference, "ours", first.settings), case, 0), folder / "reference"
    )
    wrong, found = [], {}
    for label, arm in arms.items():
        record = session.run(arm.worker, arm.python, specification(arm, case, 0), folder / label)
        wrong += gate.first_step(label, record, reference, expected)
        found[label] = {key: record[key] for key in ("digest", "loss", "grad_norm", "precision")}
        session.say(f"{name}: {label} first step: loss {record['loss']:.5f}, gradient norm {record['grad_norm']:.5f}")
    if wrong:
        raise NotTheSame(f"{name}: the programs do not do the same work.\n  " + "\n  ".join(wrong))
    session.say(f"{name}: parity with fp32 (loss {reference['loss']:.5f}, gradient norm {reference['grad_norm']:.5f})")
    return {"reference": {key: reference[key] for key in ("loss", "grad_norm")}, "arms": found}


def order(labels: Sequence[str]) -> list[str]:
    return [*labels, *reversed(labels)]


def block(name: str, lane: Lane, arms: Mapping[str, Arm], case: Path, session: Session, number: str) -> dict[str, Any]:
    """All arms forwards and backwards, and the roofline between."""
    runs: list[dict[str, Any]] = []
    seconds = lane.seconds if session.seconds is None else session.seconds
    folder = session.out / "work" / name
    bound: dict[str, Any] = {}
    labels = order(list(arms))
    for place, label in enumerate(labels):
        if lane.bound and place == len(arms):
            bound = session.run(
                "roofline",
                "ours",
                {"case": str(case), "bound": lane.bound, "settings": dict(arms["ours"].settings)},
                folder / "roofline",
            )
        arm = arms[label]
        record = session.run(arm.worker, arm.python, specification(arm, case, seconds), folder / label)
        runs.append({"arm": label, **record})
        session.say(f"{name}: block {number}: {label:<12} {rate_text(record, lane)}, {record['peak_gb']:.1f} GiB")
    return {"runs": runs, "roofline": bound, "ended": time.strftime("%Y-%m-%d %H:%M:%S")}


def cost(record: Mapping[str, Any]) -> float:
    """Seconds a unit of work."""
    return float(record["seconds"] / record["work"])


def rate_text(record: Mapping[str, Any] | None, lane: Lane) -> str:
    return f"{1 / cost(record):.4g} {lane.unit}/s" if record else "did not run"


def shown(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())
