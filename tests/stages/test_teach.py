"""teach: killed through the real command line and resumed, an endpoint that dies midway, and what ends up in the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.errors import EnvironmentFailed, UserError
from posttrain.pipeline.check import check
from posttrain.pipeline.parse import load_document, load_recipe
from posttrain.pipeline.run import run as run_here
from posttrain.records.rollouts import read_rollouts
from tests.generation.chat_server import ChatServer, Handler, completion, echo, hang_up, serving
from tests.stages.helpers import run, write_recipe

HEAD = """
name: toy
source: a test
tradeoff: none
model: ./model
seed: 7
stages:
  - {id: start, kind: evaluate, model: base, suites: {s: {source: ./tasks.jsonl, count: 2}}, graders: [{kind: function, path: "./grader.py:letters"}], sampling: {max_tokens: 2}}
"""  # noqa: E501 - a stage a line

THERE = """
  - id: taught
    kind: teach
    endpoint: {url: URL, model: big, token_env: TEACHER_TOKEN, retries: 0, give_up_after: 2, concurrency: 2, timeout_s: 5}
    tasks: ./tasks.jsonl
    data: [./train.jsonl]
    sampling: {samples: 2, temperature: 0.9, max_tokens: 20}
"""


def written(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "taught/data.jsonl").read_text().splitlines()]


def scripted(handler: Handler, body: dict[str, Any], number: int) -> None:
    """An answer that depends on what is asked and on the seed, so that who asks again gets the same."""
    said = body["messages"][-1]["content"]
    handler.answer(completion(f"{said}: {body['seed'] % 1000}", tokens=4, reasoning_content="because"))


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TEACHER_TOKEN", "sk-secret")
    return write_recipe(tmp_path)


def ask_of(server: ChatServer, recipe: Path) -> None:
    recipe.write_text(HEAD + THERE.replace("URL", server.url))


def test_killed_and_dying_endpoints_lose_nothing_and_are_asked_for_nothing_twice(recipe: Path, tmp_path: Path) -> None:
    """8 tasks and 20 prompts, two answers each: 56. Killed after 9; the endpoint dies after 30; the third run completes."""

    def dies(handler: Handler, body: dict[str, Any], number: int) -> None:
        (scripted if number < 30 else hang_up)(handler, body, number)

    with serving(dies) as server:
        ask_of(server, recipe)
        killed = run(recipe, tmp_path / "runs", fault="reply:kept:9=kill")
        assert killed.returncode == -9, killed.stderr
        with pytest.raises(EnvironmentFailed, match=r"the teacher owes 3 of 56 answers \(limit 5%\).*is kept") as died:
            run_here(load_recipe(str(recipe)), tmp_path / "runs")
        assert died.value.exit_code == 4
        cut_off = len(server.asked) - 30
        server.behaviour = scripted
        run_here(load_recipe(str(recipe)), tmp_path / "runs")
        answered = len(server.asked) - cut_off
        assert 56 <= answered <= 56 + 2  # killed, and then stopped, with one more answer on its way each time
        again = (tmp_path / "runs/toy/taught/data.jsonl").read_bytes()
        run_here(load_recipe(str(recipe)), tmp_path / "other")
    assert again == (tmp_path / "other/toy/taught/data.jsonl").read_bytes()
    rows = written(tmp_path / "runs/toy")
    assert len(rows) == 56
    assert rows[0]["messages"][0]["content"] == "say 0" and rows[-1]["messages"][0]["content"].startswith("count from")
    answer = rows[0]["messages"][-1]
    assert answer["content"].startswith("say 0: ") and answer["thinking"] == "because"
    assert rows[0]["provenance"] == {
        "task": "t0",
        "teacher": f"big at {server.url}",
        "sample": 0,
        "of": 2,
        "score": None,
        "sampling": {"temperature": 0.9, "max_tokens": 20, "top_p": 1.0, "top_k": 0, "stop": []},
    }
    for file in (tmp_path / "runs").rglob("*"):
        assert not file.is_file() or b"sk-secret" not in file.read_bytes(), file
    assert all(head["Authorization"] == "Bearer sk-secret" for head in server.headers)
    assert {record.tokens for record in read_rollouts(tmp_path / "runs/toy/taught/rollouts")} == {4}


def test_what_stays_unanswered_is_a_recorded_failure_and_changed_settings_keep_the_answers(recipe: Path, tmp_path: Path) -> None:
    def picky(handler: Handler, body: dict[str, Any], number: int) -> None:
        if "say 3" in body["messages"][-1]["content"]:
            handler.answer({"error": "too hard"}, 400)
        else:
            echo(handler, body, number)

    with serving(picky) as server:
        ask_of(server, recipe)
        recipe.write_text(recipe.read_text().replace("    data: [./train.jsonl]\n", ""))
        with pytest.raises(EnvironmentFailed, match="owes 1 of 16 answers"):
            run_here(load_recipe(str(recipe)), tmp_path / "runs")
        before = len(server.asked)
        recipe.write_text(recipe.read_text() + "    max_unanswered: 0.2\n")
        run_here(load_recipe(str(recipe)), tmp_path / "runs")
        assert before < len(server.asked) <= 16 + 2 + 1
    root = tmp_path / "runs/toy"
    records = list(read_rollouts(root / "taught/rollouts"))
    failed = [record for record in records if record.rollout_status == "failed"]
    assert len(records) == 16 and [record.task_id for record in failed] == ["t3", "t3"]
    assert all("HTTP 400" in record.explanation and record.completion == "" and record.score is None for record in failed)
    summary = json.loads((root / "taught/result.json").read_text())["summary"]
    assert summary["unanswered"] == 2 and summary["dropped"] == {"unanswered": 2, "duplicate": 7} and summary["kept"] == 7
    assert all(row["messages"][-1]["content"] for row in written(root))


SOME = '{url: "http://127.0.0.1:9/v1", model: m}'
WRONG = [
    (f"teacher: base\n    endpoint: {SOME}\n    tasks: ./tasks.jsonl", "teacher and endpoint are both given"),
    ("tasks: ./tasks.jsonl", "teacher and endpoint are both given or both missing"),
    ("teacher: base", "tasks is empty, and so is data"),
    ("teacher: bose\n    tasks: ./tasks.jsonl", "model 'bose' is neither a stage"),
    ("teacher: base\n    tasks: ./tasks.jsonl\n    keep: {passed: true}", "keep asks for passed or min_score"),
    ("teacher: base\n    data: ./train.jsonl\n    graders: [math]", "graders is set beside data"),
    ('endpoint: {url: "http://me:pw@host/v1", model: m}\n    tasks: ./tasks.jsonl', "url holds more than a host and a path"),
    ('endpoint: {url: "host/v1", model: m}\n    tasks: ./tasks.jsonl', "expected http:// or https:// and a host"),
    ('endpoint: {url: "http://host/v1", model: m, tokn_env: X}\n    tasks: ./tasks.jsonl', "Did you mean token_env?"),
    ("teacher: base\n    tasks: ./tasks.jsonl\n    max_unanswered: 2", "max_unanswered is 2"),
]


@pytest.mark.parametrize(("settings", "said"), WRONG, ids=[said[:30] for _, said in WRONG])
def test_wrong_settings_are_refused_with_their_place(recipe: Path, settings: str, said: str) -> None:
    recipe.write_text(f"{HEAD}  - id: taught\n    kind: teach\n    {settings}\n")
    with pytest.raises(UserError) as found:
        document = load_document(str(recipe))
        check(document.recipe, recipe.parent / "runs", locate=document.locate)
    assert said in str(found.value) and "recipe.yaml:" in str(found.value)
    assert "pw" not in str(found.value)


def test_a_token_that_is_not_set_and_an_endpoint_that_refuses_it(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda handler, body, number: handler.answer({"error": "who are you"}, 401)) as server:
        ask_of(server, recipe)
        with pytest.raises(UserError, match=r"HTTP 401.*token_env"):
            run_here(load_recipe(str(recipe)), tmp_path / "runs")
        monkeypatch.delenv("TEACHER_TOKEN")
        with pytest.raises(UserError, match="TEACHER_TOKEN, which is not set"):
            run_here(load_recipe(str(recipe)), tmp_path / "runs")
