"""How often a verifier is wrong: its verdicts on labelled answers, with Wilson intervals, the failing cases, and its speed.

A false accept pays for a wrong answer, a false reject takes a right one away, a case without a verdict does neither; the three are
kept apart. Labelled sets are in graders/labelled, most of them traps: the rates are for hard cases, and say nothing of how often
those occur. Intervals assume that cases are independent draws; ours are variations on kinds of traps, so read them as hints.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from posttrain.core.config import (
    FormatGrader,
    GraderConfig,
    InstructionGrader,
    LanguageGrader,
    LookupGrader,
    MathGrader,
    RefusalGrader,
)
from posttrain.core.errors import UserError
from posttrain.core.statistics import Interval, wilson
from posttrain.core.types import Grade, Message, Task
from posttrain.graders import math_answer
from posttrain.graders.build import build, wait_for
from posttrain.graders.combine import Composite
from posttrain.graders.processes import Pool

FOLDER = Path(__file__).parent / "labelled"
SETTINGS: dict[str, type[Any]] = {
    "math": MathGrader,
    "lookup": LookupGrader,
    "instruction": InstructionGrader,
    "format": FormatGrader,
    "language": LanguageGrader,
    "refusal": RefusalGrader,
}
BASE: dict[str, dict[str, Any]] = {"math": {"timeout_s": 60.0}}  # a busy machine must not turn a slow check into no verdict
WORKS_S = 0.3  # the exact path is asked again and again for so long, to be timed


@dataclass(frozen=True)
class Case:
    """A text and whether it is right."""

    right: bool
    text: str
    trap: str
    source: str
    place: str
    reference: str | None = None
    question: str = "?"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    held_out: bool = False
    """Committed before a change of the verifier. As honest as its writer was far from that change."""

    @property
    def task(self) -> Task:
        return Task(self.place, (Message("user", self.question),), self.reference, metadata=self.metadata)


@dataclass(frozen=True)
class Report:
    """What a verifier made of its labelled set. Rates are shares of the wrong, of the right, and of all cases."""

    kind: str
    cases: int
    false_accepts: Interval
    false_rejects: Interval
    no_verdict: Interval
    failing: tuple[dict[str, Any], ...]
    checks_per_s: float
    exact_checks_per_s: float | None = None
    held_out: Report | None = None
    """The same on the cases that were held out alone, where the set has some."""

    def to_json(self) -> dict[str, Any]:
        found = {**vars(self), "held_out": self.held_out.to_json() if self.held_out else None}
        rates = {name: getattr(self, name).to_json() for name in ("false_accepts", "false_rejects", "no_verdict")}
        return {**found, **rates, "failing": list(self.failing)}


def read(kind: str) -> list[Case]:
    """The labelled set of a kind of grader. Raises UserError where there is none."""
    path = FOLDER / f"{kind}.jsonl"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in FOLDER.glob("*.jsonl")))
        raise UserError(f"grader {kind} has no labelled set.", fix=f"Those that have one: {known}.")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Case(**json.loads(line), place=f"{path.name}:{number}") for number, line in enumerate(lines, 1)]


def report(kind: str) -> Report:
    """Grade every labelled case of a kind, one process at a time, so that the speed is one core's."""
    cases = read(kind)
    config = TypeAdapter(SETTINGS[kind])
    graders: dict[str, Composite] = {}
    chosen: list[Composite] = []
    for case in cases:
        key = json.dumps({**BASE.get(kind, {}), **case.settings}, sort_keys=True)
        if key not in graders:
            graders[key] = alone(config.validate_json(key, strict=True))
        chosen.append(graders[key])
    try:
        wait_for(lambda: chosen[0].text(warming(cases), r"\boxed{\sqrt{8}}"))  # starting a process is not a check
        begun = time.perf_counter()
        grades = wait_for(lambda: graded(chosen, cases))
        seconds = time.perf_counter() - begun
    finally:
        for grader in graders.values():
            grader.close()
    kept = [(case, grade) for case, grade in zip(cases, grades, strict=True) if case.held_out]
    speed = len(cases) / seconds
    held_out = made(kind, [case for case, _ in kept], [grade for _, grade in kept], speed) if kept else None
    return replace(made(kind, cases, grades, speed), held_out=held_out)


def alone(config: GraderConfig) -> Composite:
    """A grader with one process at most."""
    grader = build([config], base=Path())
    for part in grader.parts:
        if isinstance(part.pool, Pool):
            part.pool.size = 1
    return grader


def warming(cases: Sequence[Case]) -> Task:
    return Task("warming", cases[0].task.messages, r"2\sqrt{2}", metadata=cases[0].metadata)


async def graded(graders: Sequence[Composite], cases: Sequence[Case]) -> list[Grade]:
    return await asyncio.gather(*(grader.text(case.task, case.text) for grader, case in zip(graders, cases, strict=True)))


def made(kind: str, cases: Sequence[Case], grades: Sequence[Grade], speed: float) -> Report:
    judged = list(zip(cases, grades, strict=True))
    accepted = [case for case, grade in judged if not case.right and grade.passed]
    rejected = [case for case, grade in judged if case.right and grade.passed is False]
    silent = [case for case, grade in judged if grade.passed is None]
    right = sum(case.right for case in cases)
    failing = [
        {
            "place": case.place,
            "fault": "no verdict" if grade.passed is None else "false reject" if case.right else "false accept",
            **{name: getattr(case, name) for name in ("trap", "reference", "text")},
            "explanation": grade.explanation,
        }
        for case, grade in judged
        if grade.passed is not case.right
    ]
    return Report(
        kind,
        len(cases),
        wilson(len(accepted), len(cases) - right),
        wilson(len(rejected), right),
        wilson(len(silent), len(cases)),
        tuple(failing),
        round(speed, 1),
        exact_speed(cases) if kind == "math" else None,
    )


def exact_speed(cases: Sequence[Case]) -> float:
    """Checks a second of those math cases that are decided without a process."""
    config = MathGrader()
    exact = [(case.task, case.text) for case in cases if isinstance(math_answer.decide(config, case.task, case.text), Grade)]
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < WORKS_S:
        for task, text in exact:
            math_answer.decide(config, task, text)
        done += len(exact)
    return round(done / (time.perf_counter() - begun), 1)
