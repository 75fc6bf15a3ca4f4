"""builtin:instructions: what is asked can be done, is worded as it is checked, and train and test are apart."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from posttrain.core.config import InstructionGrader
from posttrain.core.errors import UserError
from posttrain.data.builtin import demonstrations, tasks
from posttrain.data.builtin.instruction_topics import TOPICS
from posttrain.data.builtin.instructions import FAMILIES, KINDS
from posttrain.data.decontaminate import overlap
from posttrain.graders import build, selftest
from posttrain.graders.build import wait_for


@pytest.mark.parametrize("split", ["train", "test"])
def test_gold_keeps_everything_and_broken_gold_does_not(split: str) -> None:
    result = selftest([InstructionGrader()], tasks("instructions", split=split, count=400, seed=3), Path())
    assert result.ok, result.problems
    assert result.tried["gold"] == 400 and result.tried["broken"] >= 60


def test_demonstrations_are_the_replies_of_their_tasks_and_pass() -> None:
    grader = build([InstructionGrader()], base=Path())
    asked, shown = tasks("instructions", count=1500, seed=9), demonstrations("instructions", count=1500, seed=9)
    for task, conversation in zip(asked, shown, strict=True):
        assert conversation.messages[:-1] == task.messages
        text = conversation.messages[-1].content
        grade = wait_for(lambda task=task, text=text: grader.text(task, text))  # type: ignore[misc]
        assert grade.passed, (task.messages[0].content, text, grade.explanation)
    grader.close()


def test_topics_are_on_one_side_and_training_rows_are_clean() -> None:
    sides = [{topic for task in tasks("instructions", split=split, count=300, seed=1) for topic in TOPICS
              if re.search(rf"\b{topic}\b", task.messages[0].content)} for split in ("train", "test")]  # fmt: skip
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) >= 22 and len(sides[1]) >= 4
    assert not overlap(demonstrations("instructions", count=1500, seed=5), tasks("instructions", split="test", count=200, seed=0))


def test_same_seed_same_tasks_and_all_kinds_come() -> None:
    first, again, other = (tasks("instructions", count=80, seed=seed) for seed in (5, 5, 6))
    assert first == again != other and tasks("instructions", count=20, seed=5) == first[:20]
    drawn = tasks("instructions", count=1200, seed=11)
    kinds = Counter(constraint["kind"] for task in drawn for constraint in task.metadata["constraints"])
    assert set(kinds) == set(KINDS) and min(kinds.values()) > 20, kinds
    for task in drawn:
        wanted = [constraint["kind"] for constraint in task.metadata["constraints"]]
        assert str(len(wanted)) == task.slices["constraints"]
        assert all(sum(kind in family for kind in wanted) <= 1 for family in FAMILIES.values())


def test_numbers_and_words_in_the_question_are_those_that_are_checked() -> None:
    for task in tasks("instructions", count=800, seed=13):
        question = task.messages[0].content
        for constraint in task.metadata["constraints"]:
            for text in (*constraint.get("texts", ()), constraint.get("text", "")):
                assert text in question, (question, constraint)
            for bound in ("at_least", "at_most"):
                if bound in constraint and constraint["kind"] != "parts":
                    assert str(constraint[bound]) in question, (question, constraint)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [({"kinds": "json"}, {"json"}), ({"kinds": ["bullets", "uppercase"], "constraints": 2}, {"bullets", "uppercase"})],
)
def test_options_choose(options: dict[str, object], kinds: set[str]) -> None:
    drawn = tasks("instructions", count=40, options=options)
    assert {constraint["kind"] for task in drawn for constraint in task.metadata["constraints"]} == kinds


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kinds": "bulets"}, "Did you mean bullets?"),
        ({"constraints": 4}, "Known: 1, 2, 3"),
        ({"instruction": "boxed"}, "instruction"),
    ],
)
def test_mistakes_are_told(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        tasks("instructions", count=5, options=options)
    assert said in str(error.value)
