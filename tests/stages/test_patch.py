"""The data patch of a diagnosis: each task with the demonstration of that very conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from posttrain.core.config import LookupGrader, MathGrader, Recipe, RefusalGrader, TaskSource
from posttrain.core.stage import StageContext
from posttrain.data.builtin import SETS
from posttrain.graders import grade_text
from posttrain.stages.diagnose import fresh

GRADERS = {"lookup": LookupGrader(), "math": MathGrader(), "refusal": RefusalGrader()}


@pytest.mark.parametrize("name", ["arithmetic", "dialogue", "derivations", "retrieval", "guardrail"])
def test_every_task_has_its_own_demonstration(name: str, tmp_path: Path) -> None:
    recipe = Recipe(name="r", source="s", tradeoff="t", model="toy", stages=())
    source = TaskSource(source=f"builtin:{name}", count=20, system="Be brief.")
    tasks, shown = fresh(source, StageContext("why", tmp_path, recipe, {}, 3))
    assert len(tasks) == len(shown) == 160
    for task, conversation in list(zip(tasks, shown, strict=True))[:80]:
        assert conversation.messages[:-1] == task.messages[1:]
        assert grade_text(GRADERS[SETS[name].grader], task, conversation.messages[-1].content).passed
