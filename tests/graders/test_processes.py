"""Promise 4 with real processes: graders that hang, crash, lie about types or are killed give an error and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from posttrain.core.config import FunctionGrader, MathGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Message, Task
from posttrain.graders import Composite, build
from posttrain.graders.processes import CheckFailed, Pool

GRADERS = """
import asyncio, os, signal, sys, time
from posttrain.core.types import Grade

def right(task, answer): return answer == task.answer
def share(task, answer): return len(answer) / 10
async def slowly(task, answer):
    await asyncio.sleep(0)
    return 0.25
def own(task, answer): return Grade(0.5, True, answer="x", explanation=task.messages[0].content)
def hangs(task, answer):
    if "hang" in answer: time.sleep(600)
    return 1.0
def hangs_hard(task, answer):
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    if os.fork() == 0: time.sleep(600)
    time.sleep(600)
def exits(task, answer): os._exit(3)
def leaves(task, answer): sys.exit("goodbye")
def raises(task, answer): raise ValueError("no such key")
def text(task, answer): return "1.0"
def nothing(task, answer): return None
def nan(task, answer): return float("nan")
def infinite(task, answer): return float("inf")
def prints(task, answer):
    print("noise " * 50_000); sys.stderr.write("more noise\\n"); os.write(1, b"{}\\n")
    return 1.0
def where(task, answer): return Grade(1.0, True, answer=str(os.getpid()))
def segfaults(task, answer):
    import ctypes
    sys.stderr.write("last words\\n"); sys.stderr.flush()
    ctypes.string_at(0)
def deep(task, answer): return deep(task, answer)
def huge(task, answer): return Grade(1.0, explanation="x" * 5_000_000)
def bad_grade(task, answer): return Grade(None)
"""


@pytest.fixture
def make(tmp_path: Path) -> object:
    (tmp_path / "mine.py").write_text(GRADERS)
    made: list[Composite] = []

    def build_one(name: str, timeout_s: float = 20.0) -> Composite:
        made.append(build([FunctionGrader(path=f"./mine.py:{name}", timeout_s=timeout_s)], base=tmp_path))
        return made[-1]

    yield build_one
    for composite in made:
        composite.close()


Make = Callable[..., Composite]


def task(answer: str = "42") -> Task:
    return Task("t", (Message("user", "the question"),), answer, {"a": "b"}, {"k": [1, {"x": None}]})


def judge(composite: Composite, text: str = "42") -> Grade:
    return asyncio.run(composite.text(task(), text))


def children() -> set[int]:
    """Live processes (zombies too) whose ancestor we are, by /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, new = set(), {os.getpid()}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def sleepers() -> set[int]:
    """Processes started from our launcher, wherever they hang in the tree."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except (FileNotFoundError, ProcessLookupError):
                continue
            if (
                alive
                and b"posttrain.graders.child" in command
                and str(os.getpid()).encode() == command.rstrip(b"\0").split(b"\0")[-1]
            ):
                found.add(int(entry.name))
    return found


def test_what_a_function_may_return(make: Make) -> None:
    assert judge(make("right")) == Grade(1.0, True, parts={"function": 1.0})
    assert judge(make("right"), "41").passed is False
    assert judge(make("share")) == Grade(0.2, None, parts={"function": 0.2})
    assert judge(make("slowly")).score == 0.25
    own = judge(make("own"))
    assert (own.score, own.passed, own.answer, own.explanation) == (0.5, True, "x", "the question")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("exits", "exit status 3"),
        ("leaves", "SystemExit: goodbye"),
        ("raises", "ValueError: no such key (at mine.py:"),
        ("text", "returned str"),
        ("nothing", "returned NoneType"),
        ("nan", "returned nan"),
        ("infinite", "returned inf"),
        ("segfaults", "SIGSEGV: last words"),
        ("deep", "RecursionError"),
        ("huge", "more than 1048576 bytes"),
        ("bad_grade", "ValueError"),
    ],
)
def test_a_broken_function_is_an_error_and_never_zero(make: Make, name: str, said: str) -> None:
    composite = make(name)
    for _ in range(2):  # the second call meets the process's successor
        grade = judge(composite)
        assert (grade.status, grade.score, grade.passed) == ("error", None, None)
        assert said in grade.explanation
        assert dict(grade.parts) == {"function": None}


def test_what_it_prints_cannot_break_the_protocol(make: Make) -> None:
    composite = make("prints")
    assert [judge(composite).score for _ in range(3)] == [1.0, 1.0, 1.0]


def test_a_hang_is_killed_in_time_and_the_next_call_works(make: Make) -> None:
    composite = make("hangs", timeout_s=1.0)
    assert judge(composite, "fine").score == 1.0
    start = time.monotonic()
    grade = judge(composite, "hang")
    assert time.monotonic() - start < 5
    assert grade.status == "error"
    assert "no verdict after 1 s" in grade.explanation
    assert judge(composite, "fine").score == 1.0


def test_a_hang_with_blocked_signals_and_a_fork_leaves_no_orphan(make: Make) -> None:
    composite = make("hangs_hard", timeout_s=1.0)
    assert judge(composite).status == "error"
    composite.close()
    for _ in range(50):
        if not sleepers():
            break
        time.sleep(0.1)
    assert sleepers() == set()


def test_killed_from_outside_in_the_middle(make: Make) -> None:
    composite = make("hangs")

    async def kill_it() -> Grade:
        work = asyncio.create_task(composite.text(task(), "hang"))
        while not sleepers():
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        for process in sleepers():
            os.kill(process, signal.SIGKILL)
        return await work

    grade = asyncio.run(kill_it())
    assert grade.status == "error"
    assert "ended by signal SIGKILL" in grade.explanation or "could not be loaded" in grade.explanation
    assert judge(composite, "fine").score == 1.0


def test_killed_while_idle_is_not_even_noticed(make: Make) -> None:
    composite = make("where")
    first = judge(composite).answer
    assert first is not None
    os.kill(int(first), signal.SIGKILL)
    second = judge(composite).answer
    assert second not in (None, first)


def test_two_hundred_at_once_with_hangs_among_them(make: Make) -> None:
    """The clock starts with the check, so a hang in front of the queue does not time out those behind it."""
    composite = make("hangs", timeout_s=1.0)

    async def all_of_them() -> list[Grade]:
        texts = ["hang" if number in (0, 50, 120) else "fine" for number in range(200)]
        return await asyncio.gather(*(composite.text(task(), text) for text in texts))

    grades = asyncio.run(asyncio.wait_for(all_of_them(), 60))
    assert [number for number, grade in enumerate(grades) if grade.status == "error"] == [0, 50, 120]
    assert sum(grade.score or 0 for grade in grades) == 197


def test_one_grader_serves_several_event_loops(make: Make) -> None:
    composite = make("share")
    assert [judge(composite).score for _ in range(3)] == [0.2, 0.2, 0.2]


def test_closing_leaves_no_process_and_drops_what_waits(make: Make) -> None:
    before = children()
    composite = make("hangs", timeout_s=60)

    async def close_early() -> list[object]:
        work = [asyncio.create_task(composite.text(task(), "hang")) for _ in range(20)]
        while not sleepers():
            await asyncio.sleep(0.02)
        await composite.aclose()
        return await asyncio.gather(*work, return_exceptions=True)

    start = time.monotonic()
    results = asyncio.run(close_early())
    assert time.monotonic() - start < 20
    assert len(results) == 20
    assert children() - before == set()
    with pytest.raises(RuntimeError, match="closed"):
        judge(composite)


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os, time\ndef slow(task, answer):\n    open('pid','w').write(str(os.getpid())); time.sleep(600)\n"
    )
    program = (
        "import sys; from pathlib import Path; from posttrain.graders import grade_text\n"
        "from posttrain.core.config import FunctionGrader; from posttrain.core.types import Message, Task\n"
        "grade_text(FunctionGrader(path='mine.py:slow', timeout_s=600), Task('t', (Message('user', '?'),)), 'x')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    try:
        for _ in range(300):
            if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
                break
            time.sleep(0.1)
        child = int((tmp_path / "pid").read_text())
    finally:
        parent.kill()
        parent.wait()
    for _ in range(50):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]:
            return
        time.sleep(0.1)
    pytest.fail("the grader's process outlived its killed parent")


def test_a_file_that_cannot_be_loaded_fails_each_grade_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os\nfrom nowhere_at_all import thing\ndef f(task, answer): return 1.0\n")
    composite = build([FunctionGrader(path="broken.py:f")], base=tmp_path)
    grades = [judge(composite) for _ in range(5)]
    composite.close()
    assert {grade.status for grade in grades} == {"error"}
    assert all("nowhere_at_all" in grade.explanation for grade in grades)


def test_a_start_that_never_ends_is_killed(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text("import time\ntime.sleep(600)\ndef f(task, answer): return 1.0\n")
    pool = Pool(("posttrain.graders.user_code", "prepare", (str(tmp_path / "stuck.py"), "f")), timeout_s=1, start_limit_s=1, size=1)
    with pytest.raises(CheckFailed, match="did not start within 1 s"):
        pool.submit({}).result(20)
    pool.close()


def test_math_checks_survive_a_kill_and_keep_their_order() -> None:
    composite = build([MathGrader(timeout_s=30)], base=Path())
    pairs = [(f"{n}\\sqrt{{2}}", f"\\sqrt{{{2 * n * n}}}") for n in range(2, 30)] + [("2\\sqrt{2}", "\\sqrt{9}")]

    async def all_of_them() -> list[Grade]:
        return await asyncio.gather(*(composite.text(task(gold), f"\\boxed{{{answer}}}") for gold, answer in pairs))

    assert [grade.passed for grade in asyncio.run(all_of_them())] == [True] * 28 + [False]
    for process in sleepers():
        os.kill(process, signal.SIGKILL)
    assert [grade.passed for grade in asyncio.run(all_of_them())] == [True] * 28 + [False]
    composite.close()
    assert sleepers() == set()


def test_a_math_check_that_takes_too_long_is_an_error_not_a_zero() -> None:
    composite = build([MathGrader(timeout_s=0.001)], base=Path())
    grade = asyncio.run(composite.text(task("x^2+2x+1"), "\\boxed{(x+1)^2}"))
    composite.close()
    assert (grade.status, grade.score, grade.answer) == ("error", None, "(x+1)^2")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("mine.py", "does not name a function"),
        ("missing.py:f", "does not exist"),
        ("mine.py:righ", "Did you mean right?"),
        ("broken.py:f", "not valid Python"),
    ],
)
def test_wrong_paths_are_told_before_anything_runs(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(GRADERS)
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(UserError) as error:
        build([FunctionGrader(path=path)], base=tmp_path)
    assert said in str(error.value)
