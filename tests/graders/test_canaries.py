"""Answers of known worth while a judge trains a model: which they are, when they are asked, and a judge that turns lenient."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from posttrain.core.config import EndpointConfig, JudgeGrader, JudgeModel
from posttrain.core.types import Message, Reply, Task
from posttrain.graders.build import build
from posttrain.graders.judge.canaries import EMPTY, ORDER, canaries, check
from posttrain.monitors import watch
from tests.graders.test_judge import Scripted, chance, word

TASKS = [Task(f"t{n}", (Message("user", f"What is {n} + {n}?"),), answer=str(2 * n)) for n in range(40)]


def judge(say: Callable[[str], Reply | Exception], **more: object) -> tuple[object, Scripted]:
    model = JudgeModel(endpoint=EndpointConfig(url="http://127.0.0.1:1/v1", model="a"))
    config = JudgeGrader(models=(model,), criteria=("The sum is right.",), show_reference=False, **more)  # type: ignore[arg-type]
    scripted = Scripted(say)
    return build([config], base=Path(), chat_models={model.name: scripted}), scripted


def at(grader: object, index: int) -> dict[str, float]:
    return asyncio.run(check(grader.judges, TASKS, index, seed=3))  # type: ignore[attr-defined]


def sum_of(asked: str) -> str:
    return str(2 * int(asked.split("What is ")[1].split(" ")[0]))


def knows(asked: str) -> Reply:
    return chance(0.9 if f"\n{sum_of(asked)}\n" in asked else 0.1)


def test_each_task_gives_a_right_answer_and_three_without_merit() -> None:
    found = canaries(TASKS[1:3])
    assert [(each.task.id, each.answer, each.good) for each in found] == [
        ("t1", EMPTY, False), ("t1", ORDER, False), ("t1", "2", True), ("t1", "4", False),
        ("t2", EMPTY, False), ("t2", ORDER, False), ("t2", "4", True), ("t2", "2", False),
    ]  # fmt: skip
    assert [each.good for each in canaries([Task("t", TASKS[0].messages)])] == [False, False]


def test_a_good_judge_passes_its_checks_and_each_asks_something_new() -> None:
    grader, model = judge(knows)
    assert at(grader, 0) == {"canary/fooled": 0.0, "canary/missed": 0.0}
    first = set(model.asked)
    assert len(first) == 16 and at(grader, 7) == {} and set(model.asked) == first
    at(grader, 10)
    assert not first & set(model.asked[16:])
    assert at(judge(knows, canary_every=0)[0], 0) == {}


def test_a_judge_that_turns_lenient_is_said_and_stops_the_run_where_asked() -> None:
    lenient, _ = judge(lambda asked: chance(0.9))
    history = [{"step": 0, **at(judge(knows)[0], 0)}, {"step": 10, **at(lenient, 10)}]
    assert history[1] == {"step": 10, "canary/fooled": 1.0, "canary/missed": 0.0}
    (said,) = watch(history, [])
    assert (said.severity, said.monitor) == ("warn", "canaries") and "100% of the answers without merit" in said.text
    assert watch(history[:1], []) == []
    (stopped,) = watch(history, [], settings={"canaries": {"most": 0.5}})
    assert stopped.severity == "stop" and "most_fooled 50%" in stopped.text
    blind = [history[0], {"step": 10, **at(judge(lambda asked: chance(0.1))[0], 10)}]
    assert "of the right answers fail the judge" in watch(blind, [])[0].text


def test_what_a_judge_does_not_answer_is_in_no_share() -> None:
    assert at(judge(lambda asked: word("Perhaps."))[0], 0) == {}


def test_a_limit_is_a_share() -> None:
    with pytest.raises(ValueError, match="most_fooled is 2; expected a number from 0 to 1"):
        judge(knows, most_fooled=2)
