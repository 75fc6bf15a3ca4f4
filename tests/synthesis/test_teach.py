"""Prompts out of rows, rows out of answers, and answers that nobody graded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from posttrain.core.config import KeepConfig
from posttrain.core.errors import EnvironmentFailed, Unanswered
from posttrain.core.types import Conversation, Message, Passage, Reply, Rollout, Sampling, Task
from posttrain.synthesis.best_of_n import choose
from posttrain.synthesis.teach import asked, prompts, row

ASK, SAY = Message("user", "q"), Message("assistant", "a")


def test_prompts_are_what_stands_before_the_last_answer_each_once() -> None:
    rows = [
        Conversation((ASK, SAY)),
        Conversation((Message("system", "s"), ASK, SAY, Message("user", "again"), Message("assistant", "b")), slices={"k": "v"}),
        Conversation((ASK, Message("assistant", "another answer to the same"))),
        Passage("completion", prompt="plain"),
        Passage("text alone asks nothing"),
    ]
    found = list(prompts(rows))
    assert [task.messages for task in found] == [
        (ASK,),
        (Message("system", "s"), ASK, SAY, Message("user", "again")),
        (Message("user", "plain"),),
    ]
    assert len({task.id for task in found}) == 3 and found[1].slices == {"k": "v"}


@dataclass(frozen=True)
class Answer:
    task_id: str
    sample: int
    completion: str
    rollout_status: str = "done"
    tokens: int = 5
    score: float | None = None
    passed: bool | None = None


def test_answers_nobody_graded_are_kept_for_what_they_are() -> None:
    answers = [
        Answer("a", 0, "fine"),
        Answer("a", 1, "fine "),
        Answer("a", 2, "cut", "truncated"),
        Answer("b", 0, "", "failed"),
        Answer("b", 1, "  "),
        Answer("b", 2, "good"),
    ]
    keep = KeepConfig(passed=False, per_task=3)
    chosen = choose(answers, keep, lambda text: True, graded=False)
    assert [(answer.task_id, answer.sample) for answer in chosen.kept] == [("a", 0), ("b", 2)]
    assert chosen.dropped == {"duplicate": 1, "cut off": 1, "unanswered": 1, "empty": 1}
    assert choose(answers, keep, lambda text: True).kept == []  # where graders are, an answer without a score is none


class Shy:
    """Answers every question but those it is told not to."""

    def __init__(self, silent: Sequence[str]) -> None:
        self.silent = silent

    async def reply(self, messages: Sequence[Message], sampling: Sampling, *, seed: int, top: int = 0) -> Reply:
        if messages[-1].content in self.silent:
            raise Unanswered("HTTP 500")
        return Reply(str(seed), "stop", None)


def ask(silent: Sequence[str], limit: float) -> list[Rollout]:
    tasks = [Task(name, (Message("user", name),)) for name in "abcd"]

    async def work() -> list[Rollout]:
        found = asked(tasks, 2, Shy(silent), Sampling(), seed=3, limit=limit, proceed=lambda: None)
        return [rollout async for rollout in found]

    return asyncio.run(work())


def test_every_sample_has_a_seed_of_its_own_and_silence_is_no_answer() -> None:
    found = ask("b", 0.25)
    answered = [each for each in found if each.status == "done"]
    assert len(found) == 8 and len({each.text for each in answered}) == 6
    assert [each.failure for each in found if each.task.id == "b"] == ["HTTP 500"] * 2
    assert all(each.rows == () and each.written == 0 for each in found)  # nobody said how many tokens


def test_too_much_silence_is_an_error_of_the_world() -> None:
    with pytest.raises(EnvironmentFailed, match=r"owes 2 of 8 answers \(limit 20%\); most often: HTTP 500"):
        ask("b", 0.2)


def test_reasoning_stays_in_the_row() -> None:
    task = Task("t", (ASK,), slices={"k": "v"})
    assert row(task, Message("assistant", "a", thinking="hm"), {"teacher": "big"}) == {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "thinking": "hm"}],
        "slices": {"k": "v"},
        "provenance": {"teacher": "big"},
    }
