"""What people read: visible text, numbers, and the comparison of two evaluations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain.core.errors import UserError
from posttrain.diagnosis import compare, show
from posttrain.diagnosis.compare import COLUMNS
from posttrain.records.paths import RunPaths
from tests.diagnosis.runs import make_run


def test_nothing_stays_hidden() -> None:
    assert show.visible("a\tb\nc") == "a\tb\nc"
    assert show.visible("\x1b[31m\r\x00\x7f") == "␛[31m␍␀⟨U+007F⟩"
    assert show.visible("\u202eabc\u2066\u200b\ufeff\u00ad\U000e0041") == "⟨U+202E⟩abc⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩⟨U+00AD⟩⟨U+E0041⟩"
    assert show.visible("\ud800") == "⟨U+D800⟩"
    assert show.visible("naïve 数学 😀 é") == "naïve 数学 😀 é"
    assert show.visible("x" * 50, 10) == "x" * 10 + "\n⟨40 more characters are in the records⟩"


def test_numbers_for_people() -> None:
    assert show.percent(0.7142) == "71.4 %" and show.percent(None) == "–" and show.percent(float("nan")) == "–"
    assert show.points(-0.051) == "−5.1" and show.points(0.2) == "+20.0"
    assert (
        show.probability(0.0004) == "p < 0.001" and show.probability(0.0312) == "p = 0.031" and show.probability(0.4) == "p = 0.40"
    )
    assert show.duration(3.21) == "3.2 s" and show.duration(712) == "11 min 52 s" and show.duration(7300) == "2 h 01 min"
    assert show.number(float("nan")) == "not finite" and show.number(0.00123) == "0.00123" and show.number(12345) == "12,345"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    return make_run(tmp_path_factory.mktemp("runs") / "demo", tasks=40, steps=6)


def test_compare_two_stages(run: RunPaths) -> None:
    found = compare(run.stage("start").directory, run.stage("end").directory)
    assert (found.before, found.after) == ("demo/start", "demo/end")
    whole = found.lines[0]
    assert (whole.suite, whole.slice, whole.test.n) == ("arithmetic", "all", 40)
    assert whole.test.fixed == len(found.tasks["arithmetic"].fixed) > 10
    assert [line.slice for line in found.lines[1:]] == [
        "digits=1",
        "digits=2",
        "operation=add",
        "operation=divide",
        "operation=multiply",
        "operation=subtract",
    ]
    assert all(len(row) == len(COLUMNS) for row in found.rows)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["lines"][0]["change"]["n"] == 40
    text = found.text().splitlines()
    assert text[0] == "demo/start → demo/end" and text[1].split() == list(COLUMNS) and len(text) == 9


def test_compare_runs(run: RunPaths, tmp_path: Path) -> None:
    same = compare(run.root, run.root)
    assert (same.before, same.after) == ("demo/start", "demo/end")
    other = make_run(tmp_path / "other", until="rl", tasks=30, steps=6)
    across = compare(other.root, run.root)
    assert (across.before, across.after) == ("other/after-sft", "demo/end")
    assert across.notes == ["arithmetic: 10 tasks have a verdict on one side only; the change is over the others."]
    assert across.lines[0].before.n == 30 and across.lines[0].after.n == 40 and across.lines[0].test.n == 30


def test_nothing_to_compare(run: RunPaths, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run of posttrain"):
        compare(tmp_path, run.root)
    empty = make_run(tmp_path / "empty", until="start", tasks=8, steps=2)
    with pytest.raises(UserError, match="holds no finished evaluation"):
        compare(empty.root, run.root)
    with pytest.raises(UserError, match="no suite in common"):
        compare(run.stage("rl").directory, run.stage("end").directory)
