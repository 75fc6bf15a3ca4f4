"""Run a lane: the case, the sweep, the gate, then blocks; what is finished stays in a file and is never run again.

A block's order is forwards and then backwards (A B B A with two programs, A B C C B A with three), each in a fresh process.
A block counts once it is whole. The file also says what it was measured with: where our code, the case or a library has
changed since, the old file is set aside and the lane starts anew, so that no ratio mixes two programs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import gate, processes
from benchmarks.cases import case_file
from benchmarks.lanes import Arm, Lane

HOT = ("algorithms", "chat", "core", "generation", "models", "rollouts", "training")
"""Packages of posttrain that the measured programs spend their time in."""

QUICK_SECONDS = 3
LEFT_OUT = ("curve", "rollouts", "first_tokens")
"""Of a record, what only the gate reads."""

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
    """The lane's results, all blocks done. Raises NotTheSame, or WorkerFailed for a program that the lane cannot do without."""
    work = Work(name, lane, session, sized_case(lane, session))
    place = session.out / f"{name}.json"
    peers = {label for label, arm in lane.arms.items() if arm.python != "ours"}
    results = opened(place, fingerprint(lane, work.case), session.say, peers)
    results |= {"lane": name, "title": lane.title, "unit": lane.unit}
    arms = prepared(work, results, place)
    wanted = session.blocks or (1 if session.quick else lane.blocks)
    for number in range(len(results["blocks"]), wanted):
        results["blocks"].append(block(work, arms, f"{number + 1} of {wanted}"))
        keep(place, results)
    return results


def sized_case(lane: Lane, session: Session) -> Path:
    sizes = lane.quick if session.quick and lane.quick else lane.sizes
    return case_file(lane.case, session.model, session.out / "cases", **sizes)


@dataclass(frozen=True)
class Work:
    """One lane in one session, with its case."""

    name: str
    lane: Lane
    session: Session
    case: Path

    def start(self, worker: str, python: str, label: str, **specification: Any) -> dict[str, Any]:
        """One fresh process; its files are in a folder of the arm's own."""
        folder = self.session.out / "work" / self.name / label
        return self.session.run(worker, python, {"case": str(self.case), "seconds": 0, "settings": {}, **specification}, folder)

    def arm(self, label: str, arm: Arm, **specification: Any) -> dict[str, Any]:
        return self.start(arm.worker, arm.python, label, settings=dict(arm.settings), **specification)


def opened(place: Path, found: dict[str, str], say: Say, peers: Collection[str] = ()) -> dict[str, Any]:
    """What is there already, if it was measured with the same things. Where our code alone changed, which of a peer's settings are
    the best, and that it does the same work, is still known."""
    if place.exists():
        results: dict[str, Any] = json.loads(place.read_text())
        changed = [key for key, value in found.items() if results["fingerprint"].get(key) != value]
        if not changed:
            return results
        aside = place.with_suffix(f".{time.strftime('%Y%m%d-%H%M%S')}.old")
        place.rename(aside)
        say(f"{place.stem}: {' and '.join(changed)} changed since it was measured; the old results are in {aside.name}")
        if changed == ["our code"]:
            known = {label: checks for label, checks in results.get("checks", {}).items() if label in peers}
            return {"fingerprint": found, "started": time.strftime("%Y-%m-%d %H:%M:%S"), "blocks": [], "checks": known}
    return {"fingerprint": found, "started": time.strftime("%Y-%m-%d %H:%M:%S"), "blocks": []}


def keep(place: Path, results: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = place.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1))
    partial.rename(place)


def fingerprint(lane: Lane, case: Path) -> dict[str, str]:
    programs = {name: [arm.worker, dict(arm.settings), [dict(each) for each in arm.tuning]] for name, arm in lane.arms.items()}
    return {
        "our code": our_code(),
        "the case": hashed([case.read_bytes()]),
        "the programs": hashed([json.dumps(programs, sort_keys=True).encode()]),
        "the threads": str(processes.threads()),
    }


def our_code() -> str:
    """Another text whenever something changed that could change a rate of ours."""
    return hashed(file.read_bytes() for part in HOT for file in sorted((processes.ROOT / "posttrain" / part).rglob("*.py")))


def hashed(parts: Any) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:12]


def prepared(work: Work, results: dict[str, Any], place: Path) -> dict[str, Arm]:
    """The arms with their final settings, each through the gate. Every check is kept as soon as it is done."""
    lane, session = work.lane, work.session
    arms: dict[str, Arm] = {}
    skipped = results.setdefault("skipped", {})
    for label, arm in lane.arms.items():
        if session.quick and (f"{label}-tuned" in lane.arms or arm.optional):
            continue
        if label in skipped:
            session.say(f"{work.name}: without {label}: {skipped[label]}")
            continue
        if not processes.PYTHONS[arm.python].exists():
            if not arm.optional:
                raise processes.WorkerFailed(
                    f"{label} needs {processes.PYTHONS[arm.python].parent.parent.name}. Run: make bench-setup"
                )
            session.say(f"{work.name}: without {label}, which is not installed (make bench-setup-{arm.python})")
            continue
        found = [checked(work, label, candidate, results, place) for candidate in candidates(arm, session.quick)]
        passed = [each for each in found if not each["wrong"]]
        if passed:
            best = min(passed, key=lambda each: each["cost"])
            arms[label] = replace(arm, settings=best["settings"])
        elif arm.optional:
            skipped[label] = "; ".join(found[0]["wrong"])
            keep(place, results)
            session.say(f"{work.name}: without {label}: {skipped[label]}")
        else:
            raise NotTheSame(
                f"{work.name}: not the same work.\n  " + "\n  ".join(wrong for each in found for wrong in each["wrong"])
            )
    results["settings"] = {label: dict(arm.settings) for label, arm in arms.items()}
    keep(place, results)
    return arms


def candidates(arm: Arm, quick: bool) -> list[Arm]:
    """The arm with each of the settings that a sweep tries."""
    tuning = (arm.tuning[:1] if quick else arm.tuning) or ({},)
    return [replace(arm, settings={**arm.settings, **settings}) for settings in tuning]


def checked(work: Work, label: str, arm: Arm, results: dict[str, Any], place: Path) -> dict[str, Any]:
    """One short run through the gate: what is wrong with it, and what it costs. Done once for the same settings."""
    checks = results.setdefault("checks", {}).setdefault(label, [])
    for known in checks:
        if known["settings"] == dict(arm.settings):
            return dict(known)
    found: dict[str, Any] = {"settings": dict(arm.settings), "wrong": []}
    try:
        record = work.arm(label, arm)
        found |= {key: record[key] for key in ("loss", "grad_norm", "precision", "peak_gb", "versions") if key in record}
        found["cost"] = cost(record)
        if work.lane.reference:
            expected = json.loads(work.case.read_text())["digest"]
            known = reference(work, label, arm, results)
            found["wrong"] = gate.GATES[work.lane.case](label, record, known, expected)
            found["reference"] = {key: known[key] for key in ("loss", "grad_norm") if key in known}
        work.session.say(f"{work.name}: {label} ({shown(arm.settings)}): {rate_text(record, work.lane)}; {verdict(found)}")
    except processes.WorkerFailed as failed:
        reason = str(failed).strip().splitlines()[-1].replace(f"{processes.ROOT}/", "")
        found["wrong"] = [f"it did not run: {reason}"]
        work.session.say(f"{work.name}: {label} ({shown(arm.settings)}): {failed}")
    checks.append(found)
    keep(place, results)
    return found


def reference(work: Work, label: str, arm: Arm, results: dict[str, Any]) -> dict[str, Any]:
    """The plain fp32 computation: once a lane, or of each program's own samples where it writes them itself."""
    assert work.lane.reference is not None
    settings = {"full": bool(arm.settings.get("full"))}
    if work.lane.case == "rounds":
        rollouts = work.session.out / "work" / work.name / label / "record.json"
        return work.start(work.lane.reference, "ours", f"{label}-reference", settings=settings, rollouts=str(rollouts))
    if "reference" not in results:
        results["reference"] = work.start(work.lane.reference, "ours", "reference", settings=settings)
    found: dict[str, Any] = results["reference"]
    return found


def verdict(found: Mapping[str, Any]) -> str:
    if found["wrong"]:
        return "; ".join(found["wrong"])
    if "reference" not in found:
        return "nothing to compare it with"
    figures = [f"{key} {found[key]:.5f} (fp32 {known:.5f})" for key, known in found.get("reference", {}).items()]
    return ", ".join(["the same work", *figures])


def block(work: Work, arms: Mapping[str, Arm], number: str) -> dict[str, Any]:
    """All arms forwards, the roofline, and all arms backwards; a quick look leaves out the way back."""
    lane, session = work.lane, work.session
    seconds = session.seconds if session.seconds is not None else QUICK_SECONDS if session.quick else lane.seconds
    runs: list[dict[str, Any]] = []
    bound: dict[str, Any] = {}
    for labels in (list(arms), list(arms)[::-1]):
        for label in labels:
            record = work.arm(label, arms[label], seconds=seconds)
            runs.append({"arm": label, **{key: value for key, value in record.items() if key not in LEFT_OUT}})
            session.say(f"{work.name}: block {number}: {label:<14} {rate_text(record, lane)}, {record['peak_gb']:.2f} GiB")
        if lane.bound and not bound:
            bound = work.start("roofline", "ours", "roofline", bound=lane.bound, settings=dict(arms["ours"].settings))
        if session.quick:
            break
    return {"runs": runs, "roofline": bound, "ended": time.strftime("%Y-%m-%d %H:%M:%S")}


def cost(record: Mapping[str, Any]) -> float:
    """Seconds a unit of work."""
    return float(record["seconds"] / record["work"])


def rate_text(record: Mapping[str, Any] | None, lane: Lane) -> str:
    return f"{1 / cost(record):.4g} {lane.unit}/s" if record else "did not run"


def shown(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items() if key != "command") or "as it comes"
