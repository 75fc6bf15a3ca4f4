"""Summaries, per-task differences and the lm-eval files, from real records."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from posttrain.evaluation import difference, lm_eval_files, summarise
from posttrain.records.rollouts import RolloutRecord

GRADED = RolloutRecord(
    step=0,
    suite="sums",
    task_id="t0",
    sample=0,
    prompt=[{"role": "user", "content": "1+1?"}],
    completion="<answer>2</answer>",
    reference="2",
    answer="2",
    score=1.0,
    passed=True,
    grade_status="scored",
    explanation="",
    rollout_status="done",
    finish="stop",
    parts={"math": 1.0},
    slices={"operation": "add"},
    tokens=10,
    logprob=-3.0,
    advantage=None,
    version=0,
)


def wrong(record: RolloutRecord) -> RolloutRecord:
    return replace(record, passed=False, score=0.0, answer="3", completion="<answer>3</answer>")


def unscored(record: RolloutRecord, status: str = "unscored") -> RolloutRecord:
    return replace(record, passed=None, score=None, grade_status=status, answer=None)


def tasks(count: int) -> list[RolloutRecord]:
    return [replace(GRADED, task_id=f"t{i}") for i in range(count)]


def test_unscored_samples_leave_the_denominator_and_are_counted() -> None:
    rows = tasks(4)
    got = summarise([rows[0], wrong(rows[1]), unscored(rows[2]), unscored(rows[3], "error")])["sums"]
    assert got["pass@1"]["value"] == 0.5
    assert got["pass@1"]["n"] == 2
    assert got["unscored"] == 2
    assert (got["tasks"], got["samples"]) == (4, 4)
    assert got["slices"]["operation=add"]["unscored"] == 2


def test_a_suite_without_any_verdict_has_no_rate() -> None:
    got = summarise([unscored(GRADED)])["sums"]
    assert got["pass@1"] == {"value": None, "low": None, "high": None, "n": 0}
    assert got["mean_score"] is None


def test_slices_and_pass_at_k() -> None:
    easy = [replace(GRADED, sample=i) for i in range(4)]
    hard = [replace(GRADED, task_id="t1", sample=i, slices={"operation": "multiply", "digits": "2"}) for i in range(4)]
    got = summarise([*easy, hard[0], *map(wrong, hard[1:])], (1, 2))["sums"]
    assert got["pass@1"]["value"] == pytest.approx((1 + 0.25) / 2)
    assert got["pass@2"]["value"] == pytest.approx((1 + 0.5) / 2)
    assert list(got["slices"]) == ["digits=2", "operation=add", "operation=multiply"]
    assert got["slices"]["operation=multiply"]["pass@1"]["value"] == 0.25
    assert got["slices"]["digits=2"]["pass@1"]["n"] == 1


def test_suites_are_kept_apart_and_lengths_are_means() -> None:
    other = replace(GRADED, suite="words", tokens=30, rollout_status="truncated", finish="length")
    got = summarise([GRADED, other, replace(other, task_id="t9", tokens=50, rollout_status="done")])
    assert list(got) == ["sums", "words"]
    assert got["words"]["mean_tokens"] == 40
    assert got["words"]["truncated"] == 0.5
    assert json.loads(json.dumps(got, allow_nan=False)) == got


def test_difference_names_the_tasks() -> None:
    rows = tasks(6)
    before = [wrong(rows[0]), rows[1], wrong(rows[2]), rows[3], unscored(rows[4]), replace(rows[5], suite="gone")]
    after = [rows[0], wrong(rows[1]), wrong(rows[2]), rows[3], rows[4]]
    got = difference(before, after)
    assert list(got) == ["sums"]
    plain = got["sums"].to_json()
    assert [plain[name] for name in ("fixed", "regressed", "still_wrong", "still_right")] == [["t0"], ["t1"], ["t2"], ["t3"]]
    assert plain["unmatched"] == 1
    assert plain["test"]["p_value"] == 1.0


def test_lm_eval_files() -> None:
    rows = tasks(4)
    records = [rows[0], rows[1], wrong(rows[2]), unscored(rows[3])]
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    files = lm_eval_files(
        records, model="./model", generation={"temperature": 0.0}, seed=7, time=time, versions={"posttrain": "0.1.0"}
    )
    assert list(files) == ["results_2026-01-02T03-04-05+00-00.json", "samples_sums_2026-01-02T03-04-05+00-00.jsonl"]
    results = json.loads(files["results_2026-01-02T03-04-05+00-00.json"])
    assert results["results"]["sums"]["exact_match,none"] == pytest.approx(2 / 3)
    assert results["results"]["sums"]["exact_match_stderr,none"] == pytest.approx((1 / 3 / 3) ** 0.5)  # s² = 1/3 over 3 tasks
    assert results["n-samples"]["sums"] == {"original": 4, "effective": 3}
    assert results["config"]["random_seed"] == 7
    assert results["posttrain_version"] == "0.1.0"
    samples = [json.loads(line) for line in files["samples_sums_2026-01-02T03-04-05+00-00.jsonl"].splitlines()]
    assert [row.get("exact_match") for row in samples] == [1.0, 1.0, 0.0, None]
    assert samples[3]["metrics"] == []
    assert samples[2]["resps"] == [["<answer>3</answer>"]]
    assert samples[0]["doc"] == {"id": "t0", "prompt": [{"role": "user", "content": "1+1?"}], "answer": "2", "operation": "add"}
    assert samples[0]["target_hash"] == hashlib.sha256(b"2").hexdigest()
    joined = "".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in samples)
    assert results["task_hashes"]["sums"] == hashlib.sha256(joined.encode()).hexdigest()


def test_lm_eval_sample_file_names_hold_no_path() -> None:
    files = lm_eval_files(
        [replace(GRADED, suite="../evil suite")], model="m", generation={}, seed=0, time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert all("/" not in name and ".." not in name for name in files)
