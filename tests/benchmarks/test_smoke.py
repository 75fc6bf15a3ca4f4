"""One lane from the case to the table, with real processes: ours beside itself on a random toy model."""

from __future__ import annotations

import dataclasses

from benchmarks import protocol, table
from benchmarks.lanes import LANES
from benchmarks.protocol import Session
from posttrain.models.toy import make_toy


def test_the_control_lane_runs_at_toy_size(tmp_path):
    model = make_toy(tmp_path / "toy", size="tiny")
    lane = dataclasses.replace(LANES["aa"], sizes={"batch": 2, "steps": 1})
    said: list[str] = []
    session = Session(tmp_path / "out", model, blocks=1, seconds=0, say=said.append)
    results = protocol.measure("aa", lane, session)
    runs = results["blocks"][0]["runs"]
    assert [run["arm"] for run in runs] == ["ours", "ours-again", "ours-again", "ours"]
    assert len({run["digest"] for run in runs}) == 1 and len({run["loss"] for run in runs}) == 1
    assert all(run["seconds"] > 0 and run["work"] > 0 and run["peak_gb"] > 0.1 for run in runs)
    (line,) = table.lines(results, lane)
    assert line.peer == "ours-again" and line.ratio.blocks == 1
    assert any("block 1 of 1" in text for text in said)
