"""The four patterns of SFT data: apart by construction, right by an independent reading, graded by what they are for."""

from __future__ import annotations

import json
import operator
import re
from collections import Counter
from pathlib import Path

import pytest

from posttrain.core.config import GraderConfig, LookupGrader, MathGrader, RefusalGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Task
from posttrain.data.builtin import SETS, demonstrations, tasks
from posttrain.data.builtin.look_alikes import HARMLESS
from posttrain.data.builtin.requests import HARMFUL
from posttrain.data.decontaminate import overlap
from posttrain.data.files import rows
from posttrain.data.formats import convert
from posttrain.graders import build, selftest
from posttrain.graders.build import wait_for

PATTERNS = ("dialogue", "derivations", "retrieval", "guardrail")
GRADER: dict[str, GraderConfig] = {"math": MathGrader(), "lookup": LookupGrader(), "refusal": RefusalGrader()}
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
ROOT = Path(__file__).parents[2]


def said(task: Task) -> str:
    return " ".join(message.content for message in task.messages)


@pytest.mark.parametrize("name", PATTERNS)
def test_train_and_test_never_meet_and_training_rows_are_clean(name: str) -> None:
    train = [*tasks(name, count=2000, seed=1), *tasks(name, count=400, seed=2)]
    test = [*tasks(name, split="test", count=200, seed=1), *tasks(name, split="test", count=100, seed=3)]
    assert not {said(task) for task in train} & {said(task) for task in test}
    assert not {task.id.rpartition("/")[2] for task in train} & {task.id.rpartition("/")[2] for task in test}
    for instruction in ("none", *(["answer_only"] if name == "dialogue" else [])):
        options = {"instruction": instruction}
        asked = tasks(name, split="test", count=200, seed=0, options=options)
        found = overlap(demonstrations(name, count=1500, seed=5, options=options), asked)
        assert not found, "the recipe's decontamination would refuse them"


@pytest.mark.parametrize("name", PATTERNS)
def test_same_seed_same_tasks_and_a_longer_draw_begins_alike(name: str) -> None:
    first, again, other = (tasks(name, count=60, seed=seed) for seed in (5, 5, 6))
    assert first == again != other and tasks(name, count=20, seed=5) == first[:20]
    assert len({task.id for task in first}) == 60


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_gold_passes_and_bad_answers_fail(name: str, split: str) -> None:
    result = selftest([GRADER[SETS[name].grader]], tasks(name, split=split, count=200, seed=7), Path())
    assert result.ok, result.problems
    assert result.tried["gold"] == 200 and (SETS[name].grader != "refusal" or result.tried["contrary"] >= 100)


@pytest.mark.parametrize(("name", "style"), [(name, style) for name in PATTERNS for style in SETS[name].styles])
def test_every_demonstration_answers_its_task_and_passes(name: str, style: str) -> None:
    asked, shown = tasks(name, count=150, seed=9), demonstrations(name, count=150, seed=9, options={"style": style})
    grader = build([GRADER[SETS[name].grader]], base=Path())
    for task, conversation in zip(asked, shown, strict=True):
        assert conversation.messages[:-1] == task.messages and conversation.context == 0
        text = conversation.messages[-1].content
        grade = wait_for(lambda task=task, text=text: grader.text(task, text))  # type: ignore[misc]
        assert grade.passed, (task, text, grade)
    grader.close()


@pytest.mark.parametrize("name", PATTERNS)
def test_slices_come_in_fair_numbers(name: str) -> None:
    drawn = tasks(name, count=1000, seed=11)
    for dimension in drawn[0].slices:
        seen = Counter(task.slices[dimension] for task in drawn)
        assert len(seen) > 1 and min(seen.values()) > 20, seen


def test_dialogues_are_answered_by_what_was_said() -> None:
    for task in tasks("dialogue", count=600, seed=13):
        *history, question = [message.content for message in task.messages]
        users = history[0::2]
        assert [message.role for message in task.messages] == ["user", "assistant"] * len(users) + ["user"]
        answer, kind = str(task.answer), task.slices["kind"]
        if kind == "count":
            held = len(re.findall(r"\band\b", users[0])) + 1
            held += sum(1 if re.match("Add|Put", text) else -1 for text in users[1:])
            assert answer == str(held)
        elif kind == "refer":
            things = re.findall(r"\w+", users[0].partition(":")[2])
            place = next(word for word in ("first", "second", "third", "fourth", "last") if word in question)
            assert answer == things[-1 if place == "last" else ("first", "second", "third", "fourth").index(place)]
        elif kind == "update":
            assert answer in users[-1] and sum(answer in text for text in users) == 1
        elif kind == "recall":
            assert sum(re.search(rf"\b{re.escape(answer)}\b", text) is not None for text in users) >= 1
        else:
            bare = answer.strip("!()").removeprefix("Sir, ")
            assert users[-1].startswith("From now on") and any(bare.casefold() in text.casefold() for text in users[:-1])


def test_every_step_of_every_derivation_is_right() -> None:
    for conversation in demonstrations("derivations", count=1200, seed=15):
        thinking, answer = re.fullmatch(  # type: ignore[union-attr]
            r"<think>(.*)</think><answer>(\d+)</answer>", conversation.messages[-1].content
        ).groups()
        steps = re.findall(r"(\d+)([+*/-])(\d+)=(\d+)", thinking)
        assert len(steps) >= 2 and thinking.count("=") == len(steps), thinking
        for left, sign, right, result in steps:
            a, b = int(left), int(right)
            assert SIGNS[sign](a, b) == int(result), thinking
        assert steps[-1][3] == answer


def test_retrieval_by_hand() -> None:
    """What the reply says is in the right passage, or in none."""
    seen = Counter[str]()
    for task in tasks("retrieval", count=600, seed=17):
        text, gold, case = task.messages[0].content, str(task.metadata["gold"]), task.slices["case"]
        passages = re.findall(r"^\[(\d)\] (.*)$", text, flags=re.MULTILINE)
        assert len(passages) == int(task.slices["passages"])
        seen[case] += 1
        asked = text.rpartition("Question: ")[2]
        holding = [passage for _, passage in passages if re.search(rf"\b{re.escape(str(task.answer))}\b", passage)]
        if case in ("missing", "namesake"):
            place = re.search(r"the (\w+ \w+)\??", asked)
            assert place and task.metadata["expect"] == "abstention" and place[1] in gold
            wrong = task.metadata["avoid"][0]
            assert all(place[1] not in passage for _, passage in passages if re.search(rf"\b{wrong}\b", passage))
        elif case == "false":
            assert not holding and task.metadata["avoid"][0] in " ".join(p for _, p in passages) and "wrong" in gold
        else:
            cited = re.search(r"\[(\d)\]", gold)
            assert cited and str(task.answer) in dict(passages)[cited[1]]
            if case == "outdated":
                years = {int(passage[1:5]): passage for _, passage in passages if passage.startswith("(")}
                assert str(task.answer) in years[max(years)]
    assert len(seen) == 5 and min(seen.values()) > 60


def test_requests_and_look_alikes_come_in_pairs_and_a_request_is_on_one_side() -> None:
    split = {side: tasks("guardrail", split=side, count=count, seed=19) for side, count in (("train", 1200), ("test", 250))}
    for side in split.values():
        share = sum(task.metadata["expect"] == "refusal" for task in side) / len(side)
        assert 0.4 < share < 0.6
    known = [request for harm in HARMFUL.values() for request in harm.requests]
    known += [request for listed in HARMLESS.values() for request, _, _ in listed]
    fixed = [request for request in known if "{" not in request]
    sides = [{request for request in fixed for task in side if request in task.messages[0].content} for side in split.values()]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) > 0.9 * len(fixed)
    assert len(set(known)) == len(known) > 150


def test_look_alikes_do_not_give_their_words_away() -> None:
    """A reply that only repeats the question holds none of the words that a real answer has."""
    for listed in HARMLESS.values():
        for request, reply, words in listed:
            assert any(re.search(rf"\b{word}\b", reply.casefold()) for word in words.split(", ")), request
            assert not any(re.search(rf"\b{word}\b", request.casefold()) for word in words.split(", ")), request


@pytest.mark.parametrize("options", [{"kinds": "harmless"}, {"kinds": ["harmful"]}])
def test_options_choose(options: dict[str, object]) -> None:
    expected = "answer" if options["kinds"] == "harmless" else "refusal"
    assert {task.metadata["expect"] for task in tasks("guardrail", count=50, options=options)} == {expected}


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("guardrail", {"kinds": "harmles"}, "Did you mean harmless?"),
        ("retrieval", {"passages": 9}, "Known: 2, 3, 4"),
        ("retrieval", {"style": "boxed"}, "option style of builtin:retrieval is 'boxed'"),
        ("dialogue", {"instruction": "boxed"}, "option instruction of builtin:dialogue is 'boxed'"),
        ("derivations", {"style": "think_equation"}, "option style of builtin:derivations is 'think_equation'"),
    ],
)
def test_mistakes_are_told(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        demonstrations(name, count=5, options=options)
    assert said in str(error.value)


@pytest.mark.parametrize("name", PATTERNS)
def test_the_example_files_read_as_training_rows(name: str) -> None:
    """What docs/sft-data.md shows is what the generator writes."""
    path = ROOT / "examples" / "data" / f"{name}.jsonl"
    read = [convert(row, "messages") for row in rows(path)]
    made = demonstrations(name, count=len(read), seed=0)
    assert [each.messages for each in read] == [each.messages for each in made]  # type: ignore[union-attr]
    assert [dict(each.slices) for each in read] == [dict(each.slices) for each in made]  # type: ignore[union-attr]


def test_what_the_document_shows_is_in_the_files() -> None:
    document = (ROOT / "docs" / "sft-data.md").read_text(encoding="utf-8")
    shown = re.findall(r"<\|im_start\|>(user|assistant)\n⟦?(.*?)<\|im_end\|>", document, flags=re.S)
    files = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples" / "data").glob("*.jsonl"))]
    assert len(shown) > 14
    missing = [turn for turn in shown if not any(json.dumps(turn[1])[1:-1] in file for file in files)]
    assert not missing
