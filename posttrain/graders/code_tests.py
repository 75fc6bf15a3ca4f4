"""Code: the program in the answer is run against the task's tests, in the sandbox.

`metadata.tests` of the task is one of
    {"functions": ["f"], "calls": [{"args": [1], "expected": 2}, {"args": [0], "raises": "ValueError"}], "tolerance": 0.0}
    {"functions": ["f"], "check": "def check(candidate): assert candidate(1) == 2", "prompt": "def f(n):\n    ..."}
    {"io": [{"stdin": "1 2\n", "stdout": "3\n"}]}
    {"repository": {"artefacts": ["shapes.py"], "files": {path: text}, "tests": ["test_shapes.py"],
                    "expected": ["test_shapes.py::test_area"]}}

The verdict comes from a process that never loads the program (posttrain/sandbox/verdicts.py). No block, a program that does not
load, hangs or gives another result is a score of 0; a sandbox or a test that is itself broken is an error, never a score. Assumes
that the tests are right and are enough: a model may learn the tests' gaps, so keep some for evaluation that no training sees.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from functools import cache
from typing import Any

from posttrain.core.config import CodeGrader
from posttrain.core.errors import SandboxFailed, UserError
from posttrain.core.types import Grade, Task
from posttrain.graders.code_block import files, last_program
from posttrain.sandbox import Limits, choose
from posttrain.sandbox.pool import Pool
from posttrain.sandbox.verdicts import Verdict, check_functions, check_outputs, check_repository

FORMS = ("functions", "io", "repository")


def pool(config: CodeGrader) -> Pool:
    """Raises SandboxUnavailable where nothing here can contain a program."""
    return Pool.of(choose(), packages=installed())


@cache
def installed() -> tuple[str, ...]:
    return (sysconfig.get_path("purelib"),)


def limits_of(config: CodeGrader) -> Limits:
    return Limits(cpu_s=config.cpu_s, wall_s=config.timeout_s, memory_bytes=config.memory_mb << 20)


async def grade(config: CodeGrader, pool: Pool, task: Task, text: str) -> Grade:
    tests = task.metadata.get("tests")
    if not isinstance(tests, Mapping) or not any(form in tests for form in FORMS):
        return Grade.unscored(f"task {task.id} has no tests: metadata.tests needs one of {', '.join(FORMS)}")
    program = "\n".join(files(text, tests["repository"]["artefacts"]).values()) if "repository" in tests else last_program(text)
    if not program:
        return Grade(0.0, False, explanation="there is no closed block of Python code")
    try:
        verdict = await pool.ask(lambda supervisor: decide(config, supervisor, tests, text, program))
    except SandboxFailed as problem:
        return Grade(None, None, "error", answer=program, explanation=str(problem))
    except (KeyError, TypeError, AttributeError, UserError) as problem:  # the task's tests are not as they should be
        return Grade(None, None, "error", answer=program, explanation=f"task {task.id}: its tests cannot be read: {problem!r}")
    return graded(config, verdict, program)


def decide(config: CodeGrader, supervisor: Any, tests: Mapping[str, Any], text: str, program: str) -> Verdict:
    limits, packages = limits_of(config), installed() if config.packages else ()
    if "repository" in tests:
        repository = tests["repository"]
        written = files(text, repository["artefacts"])
        return check_repository(supervisor, written, repository, limits=limits, packages=installed())
    if "io" in tests:
        return check_outputs(supervisor, program, tests["io"], limits=limits, packages=packages)
    source = f"{tests['prompt']}\n{program}" if "prompt" in tests else program
    return check_functions(supervisor, source, tests, limits=limits, packages=packages)


def graded(config: CodeGrader, verdict: Verdict, program: str) -> Grade:
    if verdict.status == "broken":
        return Grade(None, None, "error", answer=program, explanation=verdict.explanation)
    failed = [each for each in verdict.tests if not each.passed]
    score = verdict.share if config.score == "share" else float(verdict.passed)
    why = (
        f"{len(failed)} of {len(verdict.tests)} tests failed; {failed[0].name}: {failed[0].why}" if failed else verdict.explanation
    )
    return Grade(score, verdict.passed, answer=program, explanation=why, parts={"share": verdict.share})
