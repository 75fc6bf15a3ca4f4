"""The code grader: where the program is found, what its tests make of it, and what gives no score."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from require import require

from posttrain import graders
from posttrain.core.config import CodeGrader, LengthGrader
from posttrain.core.types import Grade, Message, Task
from posttrain.graders.code_block import files, last_program

CALLS = {"functions": ["f"], "calls": [{"args": [1], "expected": 2}, {"args": [5], "expected": 6}]}


def task(tests: Any) -> Task:
    return Task("t", (Message("user", "?"),), metadata={} if tests is None else {"tests": tests})


def graded(text: str, tests: Any = CALLS, **settings: Any) -> Grade:
    require("landlock")
    return graders.grade_text(CodeGrader(**settings), task(tests), text)


def fenced(code: str, language: str = "python") -> str:
    return f"Here it is:\n```{language}\n{code}\n```\nDone."


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (fenced("x = 1"), "x = 1\n"),
        (fenced("x = 1", "") + fenced("x = 2", "py"), "x = 2\n"),
        (fenced("x = 1") + fenced("rm -rf /", "bash"), "x = 1\n"),
        ("<think>" + fenced("x = 1") + "</think>no code", None),
        ("<think>" + fenced("x = 1"), None),
        ("```python\nx = 1", None),
        ("x = 1", None),
        ("", None),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''\n"),
        ("```python\r\nx = 1\r\n```", "x = 1\n"),
        ("```python title.py\nx = 1\n```", "x = 1\n"),
    ],
)
def test_the_program_is_the_last_closed_block_of_python(text: str, program: str | None) -> None:
    assert last_program(text) == program


def test_several_files_are_named_beside_the_language() -> None:
    text = "```python a.py\n1\n```\n```python b/c.py\n2\n```\n```python a.py\n3\n```\n```python\n4\n```"
    assert files(text, ["a.py", "b/c.py", "d.py"]) == {"a.py": "3\n", "b/c.py": "2\n"}
    assert files(text, ["only.py"]) == {"only.py": "4\n"}


def test_right_wrong_and_half_right() -> None:
    right, half = graded(fenced("def f(n): return n + 1")), graded(fenced("def f(n): return 2"))
    assert (right.score, right.passed, right.answer) == (1.0, True, "def f(n): return n + 1\n")
    assert (half.score, half.passed, dict(half.parts)) == (0.0, False, {"share": 0.5})
    assert half.explanation == "1 of 2 tests failed; f#2: gave 2"
    assert graded(fenced("def f(n): return 2"), score="share").score == 0.5
    assert graded("I cannot.").score == 0.0


@pytest.mark.parametrize("tests", [None, {}, {"calls": []}, "assert f(1) == 2"])
def test_a_task_without_tests_is_unscored(tests: Any) -> None:
    assert graded(fenced("x = 1"), tests).status == "unscored"


@pytest.mark.parametrize(
    "tests", [{"functions": []}, {"functions": ["f"]}, {"functions": ["f"], "check": "nonsense ("}, {"io": [{}]}]
)
def test_tests_that_are_broken_are_an_error_and_no_zero(tests: Any) -> None:
    found = graded(fenced("def f(n): return n"), tests)
    assert found.status == "error" and found.score is None, found


def test_the_prompt_stands_before_the_program() -> None:
    tests = {
        "functions": ["f"],
        "prompt": "import math\ndef helper(n):\n    return n + 1\ndef f(n):\n    '''One more.'''\n",
        "check": "def check(candidate): assert candidate(1) == 2 and helper(3) == 4",
    }
    assert graded(fenced("def f(n): return helper(n)"), tests).passed
    assert graded(fenced("    return helper(n)"), tests).passed, "the body alone"


def test_input_and_output() -> None:
    tests = {"io": [{"stdin": "3", "stdout": "9"}]}
    assert graded(fenced("print(int(input()) ** 2)"), tests).passed
    assert graded(fenced("print(int(input()) * 2)"), tests).passed is False


def test_it_decides_and_the_others_weigh() -> None:
    require("landlock")
    composite = graders.build([CodeGrader(), LengthGrader(soft=1, hard=2, weight=0.5)], base=Path())

    async def both() -> Grade:
        return await composite.text(task(CALLS), fenced("def f(n): return n + 1"), 10)

    found = asyncio.run(both())
    composite.close()
    assert found.passed is True and found.score == 1.0 and found.parts["code/share"] == 1.0


def test_gold_proves_itself_and_garbage_fails() -> None:
    require("landlock")
    gold = Task("t", (Message("user", "?"),), metadata={"tests": CALLS, "gold": fenced("def f(n): return n + 1")})
    found = graders.selftest([CodeGrader()], [gold], base=Path())
    assert found.ok and found.right["gold"] == 1 and found.tried["garbage"] == found.right["garbage"] > 0
