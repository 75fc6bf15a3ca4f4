"""A judge behind a real server on loopback, in GRPO through the command line: every kind of outage, and resuming after it."""

from __future__ import annotations

import json
import math
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posttrain.cli import main
from posttrain.graders.judge.beforehand import is_empty, shown_answer
from posttrain.records.metrics import read_metrics
from posttrain.records.rollouts import RolloutRecord, read_rollouts
from tests.generation.chat_server import Behaviour, Handler, completion, half_close, serving, status
from tests.stages.helpers import run as run_process
from tests.stages.helpers import write_recipe

RECIPE = """
name: judged
source: a test
tradeoff: none
model: ./model
seed: 7
stages:
  - {id: start, kind: evaluate, model: base, suites: {s: {source: ./tasks.jsonl, count: 2}}, graders: [{kind: function, path: "./grader.py:letters"}], sampling: {max_tokens: 2}}
  - id: rl
    kind: grpo
    model: base
    tasks: ./tasks.jsonl
    graders:
      - kind: judge
        models: [{endpoint: {url: URL, model: big, retries: 1, give_up_after: 4, concurrency: 4, timeout_s: 0.4}}]
        criteria: ["It is polite."]
        accept_untrusted_judge: true
        EXTRA
    max_unscored: LIMIT
    steps: 2
    prompts_per_step: 2
    samples_per_prompt: 3
    max_tokens: 12
    checkpoint_every: 1
    learning_rate: 1e-2
"""  # noqa: E501 - a stage a line


def opinion(text: str) -> float:
    """What the server's judge thinks: it depends on the answer alone, and is never 0."""
    return 0.2 + (sum(text.encode()) % 7) / 10


def judge(handler: Handler, body: dict[str, Any], number: int) -> None:
    chance = opinion(body["messages"][-1]["content"])
    value = completion("Yes" if chance >= 0.5 else "No")
    top = [{"token": "Yes", "logprob": math.log(chance)}, {"token": "No", "logprob": math.log(1 - chance)}]
    value["choices"][0]["logprobs"] = {"content": [{"token": "Yes", "logprob": math.log(chance), "top_logprobs": top}]}
    handler.answer(value)


def junk(handler: Handler, body: dict[str, Any], number: int) -> None:
    handler.raw(b"<html>\xff\x00 gateway</html>")


def wrong_schema(handler: Handler, body: dict[str, Any], number: int) -> None:
    handler.answer({"object": "chat.completion", "choices": [{"text": "Yes"}]})


def no_verdict(handler: Handler, body: dict[str, Any], number: int) -> None:
    handler.answer(completion("It depends, really."))


def hang(handler: Handler, body: dict[str, Any], number: int) -> None:
    time.sleep(0.8)
    handler.close_connection = True


OUTAGES: dict[str, Behaviour | None] = {
    "refused": None,
    "429 storm": status(429, Retry_After="0"),
    "hang": hang,
    "half a body": half_close,
    "junk": junk,
    "wrong schema": wrong_schema,
    "no verdict": no_verdict,
}


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back the signal handlers that a command sets for its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None) -> Path:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("posttrain.generation.endpoint.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("posttrain.generation.endpoint.BREAK_S", 0.05)
    write_recipe(tmp_path)
    return tmp_path


def write(folder: Path, url: str, *, limit: float = 0.2, extra: str = "max_requests: null") -> None:
    text = RECIPE.replace("URL", url).replace("LIMIT", str(limit)).replace("EXTRA", extra)
    (folder / "recipe.yaml").write_text(text)


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


def records(folder: Path) -> list[RolloutRecord]:
    return list(read_rollouts(folder / "runs/judged/rl/rollouts"))


def unseen(record: RolloutRecord) -> bool:
    """The random toy now and then writes signs only, which no judge is shown."""
    return is_empty(shown_answer(record.completion), record.prompt[-1]["content"])


def require_true(found: list[RolloutRecord]) -> None:
    """Every score is the judge's own, or the minimum of an answer that says nothing; no other 0."""
    assert any(not unseen(record) for record in found)
    for record in found:
        assert record.score is None or (record.score == 0.0) == unseen(record), record


@pytest.mark.parametrize("kind", OUTAGES)
def test_an_outage_pauses_the_run_and_resuming_completes_it(folder: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All answers fail: the step is not kept, nothing is scored 0, and with the server well again the run goes on."""
    with serving(OUTAGES[kind] or judge) as server:
        if OUTAGES[kind] is None:
            with socket.create_server(("127.0.0.1", 0)) as free:
                closed = free.getsockname()[1]
            write(folder, f"http://127.0.0.1:{closed}/v1")
        else:
            write(folder, server.url)
        assert command("run", "recipe.yaml") == 3
        said = capsys.readouterr().err
        assert re.search(r"[3-6] of 6 samples have no score \(limit 20%\)", said) and "Traceback" not in said, said
        assert "untrusted judge is accepted" in said
        assert not (folder / "runs/judged/rl/rollouts").exists()
        assert [row["rollouts/unscored"] >= 0.5 for row in read_metrics(folder / "runs/judged/rl/metrics.jsonl")] == [True]
        server.behaviour = judge
        write(folder, server.url)
        assert command("run", "recipe.yaml") == 0, capsys.readouterr().err
    found = records(folder)
    assert len(found) == 12 and all(record.score is not None for record in found)
    require_true(found)


def test_a_run_goes_on_where_that_is_configured_and_what_failed_counts_for_nothing(folder: Path) -> None:
    """Every third request fails for good: with max_unscored above that share the run goes on, and no score is invented."""

    def picky(handler: Handler, body: dict[str, Any], number: int) -> None:
        if number % 3 == 2:
            handler.answer({"error": "no"}, 400)
        else:
            judge(handler, body, number)

    with serving(picky) as server:
        write(folder, server.url, limit=0.7)
        assert command("run", "recipe.yaml") == 0
    found = records(folder)
    missing = [record for record in found if record.score is None]
    assert len(found) == 12 and 2 <= len(missing) <= 5
    assert {record.grade_status for record in missing} == {"unscored"} and all(
        "HTTP 400" in record.explanation for record in missing
    )
    assert all(record.advantage is None for record in missing)
    require_true(found)
    for step, row in enumerate(read_metrics(folder / "runs/judged/rl/metrics.jsonl")):
        own = [record.score for record in found if record.step == step and record.score is not None]
        assert row["reward/mean"] == pytest.approx(sum(own) / len(own))


def test_a_spent_budget_pauses_and_a_larger_one_goes_on_without_asking_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(judge) as server:
        write(folder, server.url, extra="max_requests: 7")
        assert command("run", "recipe.yaml") == 3
        assert "the judge's budget of 7 requests is spent" in capsys.readouterr().err
        before = len(server.asked)
        assert before == 7
        write(folder, server.url, extra="max_requests: 100")
        assert command("run", "recipe.yaml") == 0
        asked = [json.dumps(each["messages"]) for each in server.asked]
        assert len(asked) == len(set(asked)), "the same question was asked twice"


def test_killed_in_the_middle_the_replies_are_kept(folder: Path) -> None:
    """A real process, killed after its fourth reply; the next asks for the rest only, and comes to the same as one never killed."""
    with serving(judge) as server:
        write(folder, server.url)
        killed = run_process(folder / "recipe.yaml", folder / "runs", fault="reply:kept:4=kill")
        assert killed.returncode == -9, killed.stderr
        assert command("run", "recipe.yaml") == 0
        asked = [json.dumps(each["messages"]) for each in server.asked]
        assert len(asked) - len(set(asked)) <= 4  # under way when it was killed
        assert command("run", "recipe.yaml", "--runs", "other") == 0
    rows = [read_metrics(folder / runs / "judged/rl/metrics.jsonl") for runs in ("runs", "other")]
    assert [row["reward/mean"] for row in rows[0]] == [row["reward/mean"] for row in rows[1]]


def test_training_refuses_a_judge_that_nothing_shows_to_be_good(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Found by `check`, at its line; an evaluation with the same judge is allowed."""
    write(folder, "http://127.0.0.1:9/v1")
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("accept_untrusted_judge: true", "accept_untrusted_judge: false"))
    assert command("check", "recipe.yaml") == 2
    said = capsys.readouterr().err
    assert "recipe.yaml:14" in said and "no calibration shows that it can be trusted" in said and "docs/judges.md" in said
    recipe.write_text(recipe.read_text().replace("accept_untrusted_judge: false", "calibration: ./none.json"))
    assert command("check", "recipe.yaml") == 2 and "none.json cannot be read" in capsys.readouterr().err
