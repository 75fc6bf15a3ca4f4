"""Tables, the page and its figure, from results whose figures are worked out by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from benchmarks import report, table
from benchmarks.lanes import LANES
from benchmarks.protocol import our_code
from benchmarks.statistics import ratio


def run(arm: str, seconds: float, gb: float) -> dict[str, Any]:
    return {"arm": arm, "seconds": seconds, "work": 100.0, "peak_gb": gb, "versions": {"torch": "2.13", "python": "3.11"}}


def block(ours: float, trl: float, tuned: float) -> dict[str, Any]:
    runs = [run("ours", ours, 2.0), run("trl", trl, 8.0), run("trl-tuned", tuned, 4.0)]
    return {"runs": [*runs, *runs[::-1]], "roofline": {"seconds": 0.5, "work": 100.0}, "ended": "2026-01-02 03:04:05"}


@pytest.fixture
def found() -> dict[str, Any]:
    checks = [
        {"settings": {"per_device": 8}, "wrong": [], "cost": 0.02, "loss": 2.0, "reference": {"loss": 2.001}},
        {"settings": {"per_device": 4}, "wrong": ["trl-tuned: loss is off"]},
    ]
    return {
        "sft-lora": {
            "lane": "sft-lora",
            "title": "SFT",
            "unit": "useful tokens",
            "started": "2026-01-01 00:00:00",
            "fingerprint": {"the threads": "2", "our code": "abc"},
            "blocks": [block(1, 6, 2), block(1, 6, 2)],
            "settings": {"trl-tuned": {"per_device": 8}},
            "checks": {"trl-tuned": checks},
            "skipped": {"vllm": "not for this machine"},
        }
    }


def test_a_line_has_the_ratio_the_memory_and_the_share(found):
    trl, tuned = table.lines(found["sft-lora"], LANES["sft-lora"])
    assert (trl.ratio.value, tuned.ratio.value) == (pytest.approx(6), pytest.approx(2))
    assert (trl.ours, trl.theirs) == (pytest.approx(100), pytest.approx(100 / 6))
    assert (trl.memory.value, tuned.memory.value) == (pytest.approx(0.25), pytest.approx(0.5))
    assert trl.share == pytest.approx(0.5)


def test_the_text_says_what_was_reached(found):
    lines = table.table(found).splitlines()
    assert lines[0].split()[:2] == ["lane", "peer"]
    assert "6.00 (6.00 to 6.00)" in lines[1] and "5: reached" in lines[1] and "50% ≥ 35%: reached" in lines[1]
    assert "2.00 (2.00 to 2.00)" in lines[2] and "3: ahead" in lines[2]  # ahead of the peer, short of what was to be reached


def test_one_block_has_no_interval():
    assert table.interval(ratio([0.5])) == "one block"
    assert table.interval(ratio([0.0, 0.0])) == "1.00 to 1.00"
    assert table.verdict(ratio([0.5]), reach=2) == "missed"  # exp(0.5) = 1.65; two such blocks would be ahead
    assert table.verdict(ratio([0.5, 0.5]), reach=2) == "ahead"


def test_a_lane_in_which_a_peer_missed_a_block_has_no_line_for_it(found):
    results = found["sft-lora"]
    results["blocks"][1]["runs"] = [each for each in results["blocks"][1]["runs"] if each["arm"] != "trl"]
    assert [line.peer for line in table.lines(results, LANES["sft-lora"])] == ["trl-tuned"]


def test_nothing_measured_makes_an_empty_table():
    assert table.table({"sft-lora": {"blocks": []}}).count("\n") == 0


def test_the_page_has_the_table_the_settings_and_the_figure(found, tmp_path):
    report.write(found, tmp_path, tmp_path / "RESULTS.md")
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| sft-lora | trl | 100 | 16.67 | useful tokens/s | 6.00 (6.00 to 6.00) | 5: reached |" in page
    assert "chosen: per_device 8" in page and "trl-tuned: loss is off" in page
    assert "without vllm: not for this machine" in page
    assert "Not run: `python -m benchmarks gate`" in page
    assert "2026-01-02 03:04:05" in page and "torch 2.13" in page
    assert "Our code abc (changed since): sft-lora" in page
    ElementTree.parse(tmp_path / "ratios.svg")


def test_what_was_measured_on_the_code_as_it_is_and_what_only_swept_is_told(found, tmp_path):
    found["sft-lora"]["fingerprint"]["our code"] = our_code()
    found["sft-full"] = {**found["sft-lora"], "blocks": []}
    report.write(found, tmp_path, tmp_path / "RESULTS.md")
    page = (tmp_path / "RESULTS.md").read_text()
    assert f"Our code {our_code()} (as it is now): sft-lora\n" in page
    (absent,) = [line for line in page.splitlines() if line.startswith("Not measured")]
    assert "sft-full" in absent and "sft-lora" not in absent


def test_a_page_without_results_says_so(tmp_path):
    report.write({}, tmp_path, tmp_path / "RESULTS.md")
    assert "Nothing has been measured yet." in (tmp_path / "RESULTS.md").read_text()
