"""A tester and a worker in two sandboxes, joined by a pipe; the verdict comes from the tester alone.

What a model wrote runs in the worker, which knows no test and no expected value. Trusted tests run in the tester, which never loads
what the model wrote. Standard input and output need no tester: outputs are compared here. The attacks it answers are in
tests/sandbox/attacks.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from posttrain.core.errors import SandboxFailed
from posttrain.sandbox.limits import Limits
from posttrain.sandbox.programs import began, checked_name, ending, harmless_text, has_folders, run_program
from posttrain.sandbox.supervisor import Job, Process, Supervisor

LARGEST_VERDICT = 1 << 20


@dataclass(frozen=True)
class Tested:
    """One test's result. `why` says what went wrong."""

    name: str
    passed: bool
    why: str = ""


@dataclass(frozen=True)
class Verdict:
    """decided: the tests ran, or could not because of the program. broken: the tests themselves are wrong, or ask for what this
    machine cannot give; nothing is known about the program."""

    status: Literal["decided", "broken"]
    tests: tuple[Tested, ...]
    explanation: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "decided" and bool(self.tests) and all(each.passed for each in self.tests)

    @property
    def share(self) -> float:
        return sum(each.passed for each in self.tests) / len(self.tests) if self.tests else 0.0


def check_functions(
    supervisor: Supervisor, source: str, tests: Mapping[str, Any], *, limits: Limits, packages: tuple[str, ...] = ()
) -> Verdict:
    """Function tests: `functions`, and `calls` with expected results or `check` code (inside/tester.py). All tests of a problem
    share one pair of processes and its limits."""
    count = max(1, len(tests.get("calls", ())))
    names = [str(call.get("name", f"call {at + 1}")) for at, call in enumerate(tests.get("calls", ()))] or ["check"]
    job = paired(supervisor, {"source": harmless_text(source)}, dict(tests), "tester", limits, packages, scratch=False)
    found = verdict_of(job, names, limits, supervisor.backend)
    assert found.status == "broken" or len(found.tests) == count
    return found


def check_repository(
    supervisor: Supervisor,
    artefacts: Mapping[str, str],
    repository: Mapping[str, Any],
    *,
    limits: Limits,
    packages: tuple[str, ...],
) -> Verdict:
    """pytest tests of a package: `files` (trusted: all but what the model writes), `tests` (which of them are tests or belong to
    them), `expected` (every test id that must pass). What the model wrote is only `artefacts`, path to text.

    The worker gets the package with the artefacts in place; the tester gets the trusted test files. An expected test that is
    missing, skipped, expected to fail or not collected has failed.
    """
    if not has_folders(supervisor):
        return Verdict("broken", (), "a repository needs a folder, and so the right to mount (user namespaces, or root)")
    files = {checked_name(name): text for name, text in repository["files"].items()}
    tests = [checked_name(name) for name in repository["tests"]]
    written = {checked_name(name): harmless_text(text) for name, text in artefacts.items()}
    trusted = {name: text for name, text in files.items() if any(name == test or name.startswith(f"{test}/") for test in tests)}
    package = {**{name: text for name, text in files.items() if name not in trusted}, **written}
    modules = sorted({name.partition("/")[0].removesuffix(".py") for name in package if name.endswith(".py")})
    if clash := sorted(set(written) & set(trusted)):
        return Verdict("broken", (), f"{clash[0]} is both a test file and an artefact")
    side = {"files": package, "source": None, "objects": True}
    asked = {"files": trusted, "modules": modules, "tests": tests}
    job = paired(supervisor, side, asked, "repository", limits, packages, scratch=True)
    found = verdict_of(job, repository["expected"], limits, supervisor.backend)
    if found.status == "broken":
        return found
    reported = {each.name: each for each in found.tests}
    wanted = tuple(
        reported.get(name, Tested(name, False, found.explanation or "it did not run")) for name in repository["expected"]
    )
    return Verdict("decided", wanted, found.explanation)


def check_outputs(
    supervisor: Supervisor, source: str, cases: Sequence[Mapping[str, str]], *, limits: Limits, packages: tuple[str, ...] = ()
) -> Verdict:
    """Standard input and output: each case is a run of its own. Equal up to white space at the ends of lines and of the text, which
    no reader of an output can see."""
    tests = []
    for at, case in enumerate(cases):
        name = f"case {at + 1}"
        found = run_program(supervisor, source, stdin=case.get("stdin", ""), limits=limits, packages=packages)
        if found.status != "ok":
            tests.append(Tested(name, False, f"{found.status}: {found.explanation}"))
        elif lines(found.stdout) != lines(case["stdout"]):
            tests.append(Tested(name, False, f"printed {found.stdout.strip()[:100]!r}"))
        else:
            tests.append(Tested(name, True))
    return Verdict("decided", tuple(tests))


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def paired(
    supervisor: Supervisor,
    worker: Mapping[str, Any],
    tester: Mapping[str, Any],
    role: str,
    limits: Limits,
    packages: tuple[str, ...],
    *,
    scratch: bool,
) -> Job:
    """Run a tester and its worker to the tester's end; `read` of the job is the verdict as it was written."""
    if supervisor.process is None:
        supervisor.start()
    questions, asks = os.pipe()
    answers, replies = os.pipe()
    verdict, decides = os.pipe()
    os.set_blocking(verdict, False)
    try:
        return supervisor.run(
            [
                Process(limits.policy(role, scratch=scratch, packages=packages), tester, wires=(answers, asks, decides)),
                Process(limits.policy("worker", scratch=scratch, packages=packages), worker, wires=(questions, replies)),
            ],
            limits.wall_s,
            read=verdict,
            read_limit=LARGEST_VERDICT,
        )
    finally:
        os.close(verdict)


def verdict_of(job: Job, names: Sequence[str], limits: Limits, backend: str) -> Verdict:
    """Read a verdict; what goes wrong after both stood ready is the program's doing, or the tests', as the tester says."""
    tester, worker = job.processes
    began(tester)
    began(worker)

    def failed(why: str) -> Verdict:
        return Verdict("decided", tuple(Tested(name, False, why) for name in names), why)

    if job.late:
        return failed(f"no verdict after {limits.wall_s:g} s")
    try:
        said = json.loads(job.read)
    except ValueError:
        _, number = ending(tester.status, backend)
        if number and tester.cpu_s >= limits.cpu_s:
            return failed(f"the tests used more than {limits.cpu_s} s of CPU")
        raise SandboxFailed(f"the tester gave no verdict (wait status {tester.status})") from None
    if "broken" in said:
        return Verdict("broken", (), f"the tests are broken: {plain(said['broken'])}")
    if "loaded" in said:
        return failed(f"the program could not be loaded: {plain(said['loaded'])}")
    return Verdict(
        "decided", tuple(Tested(str(each["name"]), each["passed"] is True, plain(each["why"])) for each in said["tests"])
    )


def plain(why: object) -> str:
    """A model's words may be in it, and records are UTF-8."""
    return harmless_text(str(why))
