"""Calibration with labels whose agreement is known, and through the command line with a real server as the judge."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from posttrain.cli import main
from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Message
from posttrain.data.labels import Labelled, read_labels
from posttrain.evaluation.calibration import KEYS, Judged, Thresholds, calibrate
from tests.generation.chat_server import Handler, completion, serving
from tests.require import require


def judged(truth: float, said: float | None, *, stable: bool = True, words: int = 3, labels: tuple[float, ...] = ()) -> Judged:
    row = Labelled("r", (Message("user", "q"),), "word " * words, labels or (truth,))
    grade = Grade.error("junk") if said is None else Grade(said, said >= 0.5)
    return Judged(row, grade, stable, grade)


GOOD = [judged(1, 1)] * 45 + [judged(0, 0)] * 45 + [judged(1, 0)] * 5 + [judged(0, 1)] * 5
EMPTY_FAILS = [Grade(0.0, False)] * 20
NEVER = "(?!)"


def test_a_good_judge_is_trusted_and_its_numbers_are_right() -> None:
    """p_o = 0.9 and p_e = 0.5, so kappa = 0.8; precision and recall are 45/50 on both sides."""
    found = calibrate(GOOD, EMPTY_FAILS, Thresholds(), NEVER)
    measures = found["measures"]
    assert found["trusted"] and found["reasons"] == []
    assert measures["kappa"]["value"] == pytest.approx(0.8) and measures["kappa"]["low"] > 0.6
    assert measures["yes"] == measures["no"] == {"precision": 0.9, "recall": 0.9, "n": 50}
    assert measures["human_human"] is None and measures["kappa_quadratic"] is None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("rows", "keys", "said"),
    [
        ([judged(i % 2, (i // 2) % 2) for i in range(100)], EMPTY_FAILS, "kappa is 0.00"),
        (GOOD, [*EMPTY_FAILS[1:], Grade(1.0, True)], "1 of 20 answers without content pass"),
        ([judged(i % 2, i % 2, stable=i % 10 < 7) for i in range(100)], EMPTY_FAILS, "0.70 of its verdicts survive"),
        ([*GOOD, *[judged(1, None)] * 10], EMPTY_FAILS, "91% of the rows have a verdict"),
    ],
)
def test_each_threshold_is_a_reason(rows: list[Judged], keys: list[Grade], said: str) -> None:
    found = calibrate(rows, keys, Thresholds(), NEVER)
    assert not found["trusted"] and any(said in reason for reason in found["reasons"]), found["reasons"]


def test_a_pattern_that_does_as_well_is_a_reason_and_bias_for_length_shows() -> None:
    rows = [judged(i % 2, i % 2, words=3 + 9 * (i % 2)) for i in range(100)]
    assert "a pattern of words reaches kappa 1.00" in calibrate(rows, EMPTY_FAILS, Thresholds(), r"(word ){5}")["reasons"][0]
    biased = [judged(0.5, i / 100, words=i) for i in range(100)]
    measures = calibrate(biased, EMPTY_FAILS, Thresholds(), NEVER)["measures"]
    assert measures["length"]["judge"] == pytest.approx(1.0) == measures["length"]["error"]
    assert measures["length"]["people"] is None


def test_ordinal_labels_and_several_raters() -> None:
    """Raters 1 and 2 agree on all, the third is always the opposite: pairwise kappas 1, -1, -1."""
    rows = [judged(0, v, labels=(v, v, 1 - v)) for v in (0.0, 1.0)] * 10 + [judged(0, 0.6, labels=(0.5, 0.5, 0.0))]
    measures = calibrate(rows, EMPTY_FAILS, Thresholds(), NEVER)["measures"]
    assert measures["human_human"]["kappa"]["1-2"] == 1.0 and measures["human_human"]["kappa"]["1-3"] < -0.9
    assert measures["kappa_quadratic"]["value"] == pytest.approx(1.0)  # 0.6 is nearest to 0.5


# ------------------------------------------------------------------------------------------------ the files


def test_rows_of_one_answer_become_one_with_all_labels(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "answer": "a", "label": 1}, {"prompt": "q", "answer": "b", "labels": [0, 0.5]},
            {"prompt": [{"role": "user", "content": "q"}], "answer": "a", "label": False}]  # fmt: skip
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.labels for row in read_labels(str(tmp_path / "l.jsonl"))] == [(1.0, 0.0), (0.0, 0.5)]
    (tmp_path / "l.jsonl").write_text('{"prompt": "q", "answer": "a", "label": 1}\n{"prompt": "q", "answer": "b", "label": 7}\n')
    with pytest.raises(UserError, match=r"l.jsonl:2.*label is 7"):
        read_labels(str(tmp_path / "l.jsonl"))


CSV = '# dataset_version=1.0,,\n# a remark\nobjective,assistant_response,human_score_1,human_score_2,data_type\n"Say ""x""","a\nb",0.25,1,text\nq,r,0,,text\npicture,p.png,1,1,image_path\n'  # noqa: E501


def test_pyrit_is_read_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pyrit/datasets/scorer_evals/harm"
    folder.mkdir(parents=True)
    (tmp_path / "pyrit/__init__.py").write_text("raise RuntimeError('it must not be imported')")
    (folder / "small.csv").write_bytes(CSV.encode() + "q2,caf\xe9,1,0,text\n".encode("cp1252"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = read_labels("pyrit:harm/small")
    assert [(row.prompt[0].content, row.answer, row.labels) for row in found] == [
        ('Say "x"', "a\nb", (0.25, 1.0)), ("q", "r", (0.0,)), ("q2", "café", (1.0, 0.0))]  # fmt: skip
    with pytest.raises(UserError, match=r"no labelled set 'harm/smal'. Did you mean harm/small"):
        read_labels("pyrit:harm/smal")


def test_the_rows_of_the_real_pyrit() -> None:
    require("pyrit")
    assert len(read_labels("pyrit:refusal")) == 105
    assert {len(row.labels) for row in read_labels("pyrit:harm/hate_speech_multi_score")} == {3}


# ------------------------------------------------------------------------------------------------ the command


def says_even(handler: Handler, body: dict[str, Any], number: int) -> None:
    """An honest judge of "The number is even.", whatever the order of the options."""
    written = re.findall(r"<answer \w+>\n(\d+)\n", body["messages"][-1]["content"])
    handler.answer(completion("Yes" if written and int(written[0]) % 2 == 0 else "No"))


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_calibrate_and_then_check_believes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The judge that was measured may train; the same with another criterion, or with a worse result, may not."""
    from posttrain.core.config import JudgeGrader
    from posttrain.graders.judge.trust import require_trust
    from posttrain.pipeline.tree import read
    from posttrain.pipeline.validate import read_settings

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"Name a number, {i}.", "answer": f"{i}", "label": int(i % 2 == 0)} for i in range(60)]
    Path("labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving(says_even) as server:
        text = f'kind: judge\nmodels: [{{endpoint: {{url: "{server.url}", model: m}}}}]\ncriteria: ["The number is even."]\n'
        Path("judge.yaml").write_text(text)
        assert command("graders", "calibrate", "judge.yaml", "--labels", "labels.jsonl") == 0
        printed = capsys.readouterr().out
        assert "trusted: it keeps every threshold" in printed
        asked = len(server.asked)
        assert asked <= 3 * 60 + 5 * len(KEYS)
        assert command("graders", "calibrate", "judge.yaml", "--labels", "labels.jsonl", "--json") == 0
        assert len(server.asked) == asked, "replies are kept"
    found = json.loads(capsys.readouterr().out)
    assert found["measures"]["kappa"]["value"] == 1.0 and found["measures"]["test_retest"] == 1.0
    for change, trusted in (("", True), ('\nquestion: "else?"', False)):
        Path("other.yaml").write_text(f"{text}calibration: ./judge.calibration.json{change}\n")
        config = read_settings(JudgeGrader, read(Path("other.yaml")), "grader 'judge'")
        if trusted:
            assert require_trust(config, {}) == ""
        else:
            with pytest.raises(UserError, match="measured on another judge"):
                require_trust(config, {})
    kept = json.loads(Path("judge.calibration.json").read_text())
    Path("judge.calibration.json").write_text(json.dumps({**kept, "trusted": False, "reasons": ["kappa is low"]}))
    Path("other.yaml").write_text(f"{text}calibration: ./judge.calibration.json\n")
    with pytest.raises(UserError, match="does not trust it: kappa is low"):
        require_trust(read_settings(JudgeGrader, read(Path("other.yaml")), "grader 'judge'"), {})


@pytest.mark.parametrize(
    ("judge", "labels", "said"),
    [
        ("kind: judge\ncriteria: [x]\n", "l.jsonl", "models is missing"),
        ("kind: judge\nmodels: [{model: toy}]\ncompare: reference\n", "l.jsonl", "needs labels of comparisons"),
        ("kind: judge\nmodels: [{model: toy}]\ncriteria: [x]\n", "gone.jsonl", "gone.jsonl"),
    ],
)
def test_mistakes(judge: str, labels: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("judge.yaml").write_text(judge)
    Path("l.jsonl").write_text("".join(f'{{"prompt": "q", "answer": "{i}", "label": 1}}\n' for i in range(3)))
    assert command("graders", "calibrate", "judge.yaml", "--labels", labels) == 2
    assert said in capsys.readouterr().err
