"""The instruction grader: each kind of constraint on labelled texts, wrong constraints, schemas that reach out, the loose form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posttrain.core.config import Constraint, FormatGrader, InstructionGrader, MathGrader
from posttrain.core.config.instruction import FIELDS
from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Message, Task
from posttrain.graders import build, grade_text, selftest
from posttrain.graders.constraints import CHECKS
from posttrain.graders.error_rates import read
from posttrain.graders.instruction_broken import broken

KNOWN_MISTAKES = {"language, short"}  # a Latin-letter sentence without a stop word is not judged


def task(*constraints: dict[str, Any], **metadata: Any) -> Task:
    return Task("t", (Message("user", "?"),), None, metadata={"constraints": list(constraints), **metadata})


def graded(text: str, *constraints: dict[str, Any], **settings: Any) -> Grade:
    return grade_text(InstructionGrader(**settings), task(*constraints), text)


@pytest.mark.parametrize("case", read("instruction"), ids=lambda case: case.place)
def test_labelled_answers(case: Any) -> None:
    grade = grade_text(InstructionGrader(**case.settings), case.task, case.text)
    assert (grade.passed is case.right) is (case.trap not in KNOWN_MISTAKES), grade


def test_every_kind_has_a_check_and_a_labelled_case() -> None:
    assert set(FIELDS) == set(CHECKS)
    seen = {constraint["kind"] for case in read("instruction") for constraint in case.metadata["constraints"]}
    assert seen == set(FIELDS)


def test_score_is_the_share_kept_and_passed_is_all() -> None:
    wanted = ({"kind": "no_comma"}, {"kind": "words", "at_most": 3}, {"kind": "words", "at_least": 2}, {"kind": "lowercase"})
    grade = graded("one, two", *wanted)
    assert (grade.score, grade.passed) == (0.75, False)
    assert dict(grade.parts) == {"no_comma": 0.0, "words": 1.0, "words_2": 1.0, "lowercase": 1.0}
    assert grade.explanation == "with a comma"
    assert graded("one two", *wanted).passed is True


def test_settings_and_metadata_add_up_and_nothing_is_no_score() -> None:
    settings = {"constraints": (Constraint(kind="no_comma"),)}
    assert graded("a, b", **settings).passed is False
    assert graded("a b", {"kind": "uppercase"}, **settings).score == 0.5
    assert graded("a b").status == "unscored"


def test_silence_keeps_no_prohibition() -> None:
    for text in ("", " \n", "<think>a</think>", "<answer> </answer>"):
        assert graded(text, {"kind": "no_comma"}, {"kind": "exclude", "texts": ["x"]}).score == 0.0


def test_loose_forgives_a_frame_and_nothing_else() -> None:
    begins = {"kind": "starts_with", "text": "Bees"}
    framed = "Sure, here it is:\n**Bees** fly.\nHope this helps!"
    assert graded(framed, begins).passed is False
    assert graded(framed, begins, strictness="loose").passed is True
    assert graded("Sure.\nOf course.\nBees fly.", begins, strictness="loose").passed is False
    assert graded("only one line, a", {"kind": "no_comma"}, strictness="loose").passed is False  # without it nothing is left


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        ({"kind": "wrds", "at_least": 1}, "kind"),
        ({"kind": "words"}, "needs one of them"),
        ({"kind": "words", "at_least": "3"}, "valid integer"),
        ({"kind": "words", "at_least": 5, "at_most": 3}, "at_least is 5"),
        ({"kind": "words", "at_least": 5, "text": "x"}, "text is set, but kind words reads only"),
        ({"kind": "include"}, "texts is missing"),
        ({"kind": "include", "texts": [" "]}, "empty entry"),
        ({"kind": "letter", "text": "ab", "at_least": 1}, "one letter"),
        ({"kind": "language", "language": "xx"}, "language is 'xx'"),
        ({"kind": "no_comma", "extra": 1}, "extra"),
        ({"kind": "json", "schema": {"type": "objekt"}}, "not a JSON schema"),
        ({"kind": "json", "schema": {"$ref": "http://example.com/s.json"}}, "expected a reference into the schema itself"),
        ({"kind": "json", "schema": {"properties": {"a": {"pattern": "(a+)+$"}}}}, "pattern is not used here"),
    ],
)
def test_a_constraint_that_cannot_be_judged_is_an_error_and_no_zero(constraint: dict[str, Any], said: str) -> None:
    grade = graded("text", constraint)
    assert (grade.status, grade.score) == ("error", None)
    assert said in grade.explanation and "task t" in grade.explanation


def test_a_schema_in_the_settings_is_refused_before_the_run() -> None:
    remote = Constraint(kind="json", schema={"allOf": [{"$ref": "file:///etc/passwd"}]})
    with pytest.raises(UserError, match="constraint json"):
        build([InstructionGrader(constraints=(remote,))], base=Path())
    named = {"properties": {"pattern": {"type": "string"}, "$ref": {"const": {"$ref": "http://x"}}}}  # names and data, not keywords
    build([InstructionGrader(constraints=(Constraint(kind="json", schema=named),))], base=Path()).close()


def test_hostile_json_is_decided_at_once() -> None:
    nested = {"type": "array", "items": {"$ref": "#"}}
    for text in ("[" * 9_000, "[" * 4_000 + "]" * 4_000, "[" + "1," * 6_000 + "1]", '"\ud800"', "1" * 9_000, "{" * 100, "\x00"):
        assert graded(text, {"kind": "json", "schema": nested}).passed is False
    dangling = graded("[1]", {"kind": "json", "schema": {"items": {"$ref": "#/$defs/none"}}})
    assert dangling.status == "error" and "does not hold" in dangling.explanation


def test_self_test_breaks_each_constraint_of_gold() -> None:
    gold = "Bees fly\n- far\n- high"
    good = task({"kind": "bullets", "at_least": 2, "at_most": 2}, {"kind": "include", "texts": ["bees"]}, gold=gold)
    assert broken(good) == [gold + "\n- more" * 3, " fly\n- far\n- high"]
    result = selftest([InstructionGrader()], [good], Path())
    assert result.ok and result.tried == {"gold": 1, "empty": 2, "broken": 2}
    with pytest.raises(UserError, match="0 bullets"):
        selftest([InstructionGrader()], [task({"kind": "bullets", "at_least": 2}, gold="none")], Path())


def test_instructions_beside_mathematics_do_not_ask_a_bare_reference_to_keep_them() -> None:
    asked = Task("m", (Message("user", "?"),), "42", metadata={"constraints": [{"kind": "words", "at_least": 5}]})
    assert selftest([MathGrader(), InstructionGrader(), FormatGrader(layout="boxed")], [asked], Path()).ok
