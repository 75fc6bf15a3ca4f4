"""BFCL multi-turn, the real package: its reference calls solve it, wrong ones do not, and no text is ever evaluated."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from require import require

from posttrain.core.config import BfclEnvironment
from posttrain.core.errors import UserError
from posttrain.core.types import Action, Grade, Message, Task, ToolCall
from posttrain.environments import adapters

CONFIG = BfclEnvironment()


def play(task: Task, turns: list[list[str]], *, by_name: bool) -> tuple[Grade, list[str], int]:
    """Each turn of the user answered by these calls, as tool calls where they have names for all arguments, or as text."""
    from posttrain.environments.adapters.bfcl import in_text

    async def episode() -> tuple[Grade, list[str], int]:
        world = adapters.factory(CONFIG)(task)
        await world.reset(task)
        shown, users = [], 1
        for calls in turns:
            for text in calls:
                [(name, positional, named)] = in_text(f"[{text}]")
                as_call = by_name and not positional
                said = (
                    Message("assistant", "", tool_calls=(ToolCall(name, named),)) if as_call else Message("assistant", f"[{text}]")
                )
                step = await world.step(Action(said))
                shown += [message.content for message in step.observation.messages]
            step = await world.step(Action(Message("assistant", "Done.")))
            users += len(step.observation.messages)
            if step.terminated:
                break
        await world.close()
        assert step.grade is not None
        return step.grade, shown, users

    return asyncio.run(episode())


def reference(task: Task) -> list[list[str]]:
    from posttrain.environments.adapters.bfcl import rows

    return rows(task.metadata["bfcl"]["category"])[task.metadata["bfcl"]["id"]][1]


def test_the_reference_solves_tasks_of_every_category() -> None:
    require("bfcl_eval")
    given = adapters.tasks(CONFIG, split="test", count=90, seed=0)
    assert {task.slices["category"] for task in given} == {"base", "miss_param", "long_context"}
    failed = [(task.id, grade.explanation) for task in given if not (grade := play(task, reference(task), by_name=True)[0]).passed]
    assert not failed


def test_leaving_a_call_out_or_doing_one_more_fails() -> None:
    require("bfcl_eval")
    task = next(task for task in adapters.tasks(CONFIG, split="train", count=400, seed=0) if task.id == "multi_turn_base_1")
    gold = reference(task)
    assert play(task, gold, by_name=False)[0].passed
    fewer = [gold[0], gold[1][:-1], *gold[2:]]
    grade, _, users = play(task, fewer, by_name=True)
    assert (
        grade.passed is False and "turn 2 of the user" in grade.explanation and grade.parts["turns"] == 1 / len(gold) and users == 2
    )
    assert play(task, [[*gold[0], "mkdir(dir_name='more')"], *gold[1:]], by_name=True)[0].passed is False
    assert play(task, [[], [], [], []], by_name=True)[0].passed is False


@pytest.mark.parametrize(
    "text",
    [
        "[__import__('os').system('touch /tmp/owned')]",
        "[ls(a=__import__('os').getcwd())]",
        "[ls(a=open('/etc/passwd').read())]",
        "[(lambda: 1)()]",
        "[ls.__globals__()]",
        "[x for x in ()]",
        "[ls(**{'a': True})]" + "[" * 5000,
        "ls(a=True)",
        "[1]",
        "[ls(a=True)",
    ],
)
def test_text_is_read_and_never_evaluated(text: str) -> None:
    from posttrain.environments.adapters.bfcl import in_text

    assert in_text(text) == []


def test_literals_alone_are_arguments() -> None:
    from posttrain.environments.adapters.bfcl import in_text

    assert in_text("[f('x', b=[1, -2.5], c={'k': (None, True)}), g()]") == [
        ("f", ("x",), {"b": [1, -2.5], "c": {"k": (None, True)}}),
        ("g", (), {}),
    ]


def test_only_offered_functions_are_called_and_mistakes_are_told() -> None:
    require("bfcl_eval")
    task = next(task for task in adapters.tasks(CONFIG, split="train", count=400, seed=0) if task.id == "multi_turn_base_1")

    async def blunder() -> list[str]:
        world = adapters.factory(CONFIG)(task)
        await world.reset(task)
        names = [tool.name for tool in world.tools]
        assert "ls" in names and not [name for name in names if name.startswith("_")]
        assert all(tool.parameters["type"] == "object" for tool in world.tools)
        calls: list[tuple[str, dict[str, Any]]] = [
            ("_load_scenario", {"scenario": {}}),
            ("__init__", {}),
            ("no_such", {}),
            ("cd", {}),
            ("cd", {"folder": 3}),
            ("cd", {"folder": "../../../etc"}),
        ]
        told = []
        for name, named in calls:
            step = await world.step(Action(Message("assistant", "", tool_calls=(ToolCall(name, named),))))
            told.append(step.observation.messages[0].content)
        step = await world.step(Action(Message("assistant", "<tool_call>{broken")))
        assert "could not be read" in step.observation.messages[0].content and not step.terminated
        return told

    assert all("error" in text.lower() or "no such" in text.lower() for text in asyncio.run(blunder()))


def test_episodes_have_services_of_their_own() -> None:
    require("bfcl_eval")
    task = adapters.tasks(CONFIG, split="train", count=1, seed=0)[0]
    gold = reference(task)
    assert [play(task, gold, by_name=True)[0].passed for _ in range(2)] == [True, True]


def test_unknown_tasks_and_too_many_are_refused() -> None:
    require("bfcl_eval")
    with pytest.raises(UserError, match="no task of BFCL"):
        play(Task("t", (Message("user", "?"),), metadata={"bfcl": {"category": "miss_func", "id": "x"}}), [[]], by_name=True)
    with pytest.raises(UserError, match="has 120 test tasks"):
        adapters.tasks(CONFIG, split="test", count=121, seed=0)
