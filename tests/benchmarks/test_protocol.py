"""Blocks: their order, what a cut-off run keeps, sweeps, and programs that do not take part. Workers are stood in for at the
border where a process would be started; test_smoke.py starts real ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import processes, protocol
from benchmarks.lanes import LANES, Arm, Lane
from benchmarks.protocol import NotTheSame, Session

SECONDS = {"ours": 1.0, "peer": 4.0, "peer-tuned": 2.0}


class Workers:
    """Records what was started, and answers as workers do."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stop_at: int | None = None

    def __call__(self, worker: str, python: str, specification: dict[str, Any], folder: Path) -> dict[str, Any]:
        if self.stop_at == len(self.started):
            raise KeyboardInterrupt
        self.started.append(folder.name)
        settings = specification["settings"]
        if settings.get("breaks"):
            raise processes.WorkerFailed("it ended with 1\nno such library")
        seconds = SECONDS.get(folder.name, 1.0) * settings.get("factor", 1)
        return {
            "seconds": seconds,
            "work": 2.0,
            "peak_gb": 1.0,
            "digest": "d" if not settings.get("wrong") else "other",
            "loss": 1.0,
            "grad_norm": 1.0,
            "precision": {"compute": "bfloat16", "masters": "float32"},
            "versions": {"torch": "1"},
            "curve": [1.0],
        }


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def session(tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> Session:
    case = tmp_path / "case.json"
    case.write_text(json.dumps({"digest": "d"}))
    monkeypatch.setattr(protocol, "sized_case", lambda lane, session: case)
    monkeypatch.setattr(processes, "PYTHONS", {"ours": Path("/"), "absent": tmp_path / "nothing" / "bin" / "python"})
    return Session(tmp_path, tmp_path, blocks=2, say=lambda text: None, run=workers)


LANE = Lane(
    title="a lane",
    unit="things",
    case="sft",
    arms={"ours": Arm("w", "ours"), "peer": Arm("w", "ours"), "peer-tuned": Arm("w", "ours")},
    reference="reference",
)


def test_a_block_runs_forwards_and_then_backwards(session, workers):
    results = protocol.measure("lane", LANE, session)
    checks, blocks = workers.started[:4], workers.started[4:]
    assert checks == ["ours", "reference", "peer", "peer-tuned"]
    assert blocks == ["ours", "peer", "peer-tuned", "peer-tuned", "peer", "ours"] * 2
    assert [run["arm"] for run in results["blocks"][0]["runs"]] == blocks[:6]


def test_a_cut_off_run_keeps_whole_blocks_and_does_the_cut_one_again(session, workers):
    workers.stop_at = 4 + 6 + 3  # in the middle of the second block
    with pytest.raises(KeyboardInterrupt):
        protocol.measure("lane", LANE, session)
    kept = json.loads((session.out / "lane.json").read_text())
    assert len(kept["blocks"]) == 1
    workers.stop_at, workers.started = None, []
    results = protocol.measure("lane", LANE, session)
    assert workers.started == ["ours", "peer", "peer-tuned", "peer-tuned", "peer", "ours"]  # no check and no first block again
    assert results["blocks"][0] == kept["blocks"][0] and len(results["blocks"]) == 2
    workers.started = []
    protocol.measure("lane", LANE, session)
    assert workers.started == []


def test_a_changed_case_sets_the_old_results_aside(session, workers):
    protocol.measure("lane", LANE, session)
    (session.out / "case.json").write_text(json.dumps({"digest": "d", "more": 1}))
    workers.started = []
    protocol.measure("lane", LANE, session)
    assert len(workers.started) == 4 + 12
    assert len(list(session.out.glob("lane.*.old"))) == 1


def test_where_our_code_alone_changed_a_peers_sweep_is_still_known(session, workers, monkeypatch):
    monkeypatch.setattr(processes, "PYTHONS", {"ours": Path("/"), "other": Path("/")})
    lane = dataclasses.replace(LANE, arms={"ours": Arm("w", "ours"), "peer": Arm("w", "other", {}, ({"factor": 3}, {"factor": 2}))})
    first = protocol.measure("lane", lane, session)
    monkeypatch.setattr(protocol, "HOT", ("chat",))  # another set of files has another hash
    workers.started = []
    again = protocol.measure("lane", lane, session)
    assert workers.started[:2] == ["ours", "reference"] and len(workers.started) == 2 + 2 * 4
    assert again["settings"] == first["settings"] == {"ours": {}, "peer": {"factor": 2}}


def swept(*settings: dict[str, Any], optional: bool = False) -> Lane:
    return dataclasses.replace(LANE, arms={"ours": Arm("w", "ours"), "peer": Arm("w", "ours", {}, settings, optional)})


def test_a_sweep_keeps_the_fastest_that_is_the_same_work(session, workers):
    lane = swept({"factor": 3}, {"factor": 0.1, "wrong": True}, {"factor": 2}, {"breaks": True})
    results = protocol.measure("lane", lane, session)
    assert results["settings"]["peer"] == {"factor": 2}
    assert [bool(check["wrong"]) for check in results["checks"]["peer"]] == [False, True, False, True]
    assert "no such library" in results["checks"]["peer"][3]["wrong"][0]


def test_programs_that_never_do_the_same_work_are_not_timed(session, workers):
    with pytest.raises(NotTheSame, match="other ids, masks"):
        protocol.measure("lane", swept({"wrong": True}), session)
    assert json.loads((session.out / "lane.json").read_text())["blocks"] == []


def test_an_optional_program_that_does_not_run_is_left_out_with_the_reason(session):
    results = protocol.measure("lane", swept({"breaks": True}, optional=True), session)
    assert "no such library" in results["skipped"]["peer"]
    assert {run["arm"] for run in results["blocks"][0]["runs"]} == {"ours"}


def test_an_environment_that_is_not_installed_is_said(session):
    arms = {"ours": Arm("w", "ours"), "peer": Arm("w", "absent")}
    with pytest.raises(processes.WorkerFailed, match="make bench-setup"):
        protocol.measure("lane", dataclasses.replace(LANE, arms=arms), session)
    optional = {**arms, "peer": Arm("w", "absent", optional=True)}
    assert len(protocol.measure("lane", dataclasses.replace(LANE, arms=optional), session)["blocks"]) == 2


def test_every_lane_begins_with_ours_and_names_workers_that_exist():
    from benchmarks.cases import CASES
    from benchmarks.workers.__main__ import WORKERS

    for name, lane in LANES.items():
        assert next(iter(lane.arms)) == "ours", name
        assert set(lane.reach) <= set(lane.arms), name
        assert lane.case in CASES, name
        assert {arm.worker for arm in lane.arms.values()} <= set(WORKERS), name
        assert lane.reference is None or lane.reference in WORKERS, name
    for place in WORKERS.values():
        module, _, function = place.partition(":")
        source = (processes.ROOT / "benchmarks" / "workers" / f"{module}.py").read_text()
        assert f"\ndef {function}(" in source, place


def test_a_quick_look_runs_tuned_peers_once_and_forwards_only(session, workers):
    quick = dataclasses.replace(session, quick=True, blocks=None)
    arms = {**LANE.arms, "peer": Arm("w", "ours"), "last": Arm("w", "ours", optional=True)}
    results = protocol.measure("lane", dataclasses.replace(LANE, arms=arms), quick)
    assert workers.started == ["ours", "reference", "peer-tuned", "ours", "peer-tuned"]
    assert len(results["blocks"]) == 1
