"""Graders prove themselves on the data before a run: gold passes, everything else fails, and holes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from posttrain.core.config import FormatGrader, FunctionGrader, LanguageGrader, LengthGrader, LookupGrader, MathGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Message, Task
from posttrain.graders import selftest


def tasks(*answers: str | None, **metadata: object) -> list[Task]:
    return [Task(f"set/{number}", (Message("user", "?"),), answer, metadata=metadata) for number, answer in enumerate(answers)]


@pytest.mark.parametrize(
    "configs",
    [
        [MathGrader()],
        [MathGrader(extract="boxed")],
        [MathGrader(extract="answer_tag")],
        [MathGrader(extract="last_number")],
        [MathGrader(), FormatGrader()],
        [MathGrader(), FormatGrader(gate=True), LanguageGrader(language="de"), LengthGrader()],
        [MathGrader(extract="boxed"), FormatGrader()],
        [MathGrader(), FormatGrader(layout="boxed")],
    ],
)
def test_numbers_with_every_layout(configs: list[MathGrader]) -> None:
    result = selftest(configs, tasks("42", "-7", "3.5", "1/2"), Path())
    assert result.ok, result.problems
    assert result.tried["gold"] == 4
    assert {"empty", "garbage", "guesses", "rival"} <= set(result.tried)


@pytest.mark.parametrize(
    "configs",
    [
        [LookupGrader()],
        [LookupGrader(extract="answer_tag")],
        [LookupGrader(extract="whole")],
        [LookupGrader(extract="last_line")],
        [LookupGrader(), FormatGrader()],
    ],
)
def test_names_with_every_layout(configs: list[LookupGrader]) -> None:
    result = selftest(configs, tasks("Paris", "Rome", "Lima"), Path())
    assert result.ok, result.problems


def test_symbolic_answers() -> None:
    result = selftest([MathGrader()], tasks(r"2\sqrt{2}", "x^2+1", "(1,2)", r"\{1,2\}", r"\text{Monday}"), Path())
    assert result.ok, result.problems


def test_a_data_set_whose_gold_does_not_pass_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"set/1.*does not pass") as error:
        selftest([MathGrader(extract="last_number")], tasks("42", "Paris"), Path())
    assert "Paris" in str(error.value)
    with pytest.raises(UserError, match=r"set/2.*gets no score"):
        selftest([MathGrader()], tasks("1", "2", ""), Path())


def test_gold_completions_given_with_the_task_are_used() -> None:
    good = tasks("42", gold="<think>so</think><answer>42</answer>")
    assert selftest([MathGrader(), FormatGrader()], good, Path()).right["gold"] == 1
    with pytest.raises(UserError, match="set/0"):
        selftest([MathGrader(), FormatGrader()], tasks("42", gold="<answer>41</answer>"), Path())


def test_a_grader_with_a_hole_is_reported(tmp_path: Path) -> None:
    """As public scorers do: any text that contains the answer passes, or any text at all."""
    (tmp_path / "holes.py").write_text(
        "def contains(task, answer): return task.answer in answer\n"
        "def anything(task, answer): return True\n"
        "def crash(task, answer): raise KeyError(1)\n"
    )
    contains = selftest([FunctionGrader(path="holes.py:contains")], tasks("42", "43"), tmp_path)
    assert not contains.ok
    assert contains.right["garbage"] == contains.tried["garbage"]
    assert contains.right["guesses"] == 0
    assert any("guesses answer" in problem and "passes" in problem for problem in contains.problems)
    anything = selftest([FunctionGrader(path="holes.py:anything")], tasks("42"), tmp_path)
    assert anything.right == {"gold": 1, "empty": 0, "garbage": 0, "guesses": 0, "rival": 0}
    with pytest.raises(UserError, match=r"set/0.*gets no score.*KeyError"):
        selftest([FunctionGrader(path="holes.py:crash")], tasks("42"), tmp_path)


def test_graders_of_style_have_nothing_to_prove_on_gold() -> None:
    assert selftest([LengthGrader(), LanguageGrader()], tasks("42"), Path()).ok
    assert selftest([MathGrader()], [], Path()).ok
