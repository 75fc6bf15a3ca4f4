"""Graders prove themselves on a data set before it is used: gold passes; empty, garbage and gold among guesses fail.

Reward holes are usually here: a scorer that accepts any text, the first number it finds, or a list that contains the answer
(public scorers have several of each). A data set whose gold does not pass is refused, because a policy could only learn
to please the grader in some other way. Language, length and reward models say nothing about gold and are left out.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from posttrain.core.config import GraderConfig, LookupGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Task
from posttrain.graders import exact
from posttrain.graders.build import build, wait_for
from posttrain.graders.combine import VERIFIERS, Composite
from posttrain.graders.instruction_broken import broken

TESTED = ("math", "lookup", "refusal", "instruction", "code", "format", "function")
CANARY_TASKS = 50
SHOWN = 10


@dataclass(frozen=True)
class SelfTest:
    """How many attempts of each kind were made, how many did what they should, and the first few that did not, in words."""

    tasks: int
    tried: dict[str, int]
    right: dict[str, int]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.tried == self.right


def selftest(configs: Sequence[GraderConfig], tasks: Sequence[Task], base: Path) -> SelfTest:
    """Try the graders on every task's gold, and on bad answers to the first fifty tasks.

    Raises UserError naming the task whose gold does not pass. Bad answers that pass are reported in the result.
    """
    tested = [config for config in configs if config.kind in TESTED]
    if not all("gold" in task.metadata for task in tasks):  # the reference alone is no text that keeps constraints
        tested = [config for config in tested if config.kind != "instruction"]
    if not tested or not tasks:
        return SelfTest(len(tasks), {}, {}, ())
    if all(config.gate or config.weight == 0 for config in tested):
        tested = [type(config)(**{**vars(config), "gate": False, "weight": 1.0}) for config in tested]
    grader = build(tested, base=base)
    try:
        return wait_for(lambda: examine(grader, tested, tasks))
    finally:
        grader.close()


async def examine(grader: Composite, configs: Sequence[GraderConfig], tasks: Sequence[Task]) -> SelfTest:
    with_gold = [task for task in tasks if task.answer is not None or "gold" in task.metadata]
    golds = await asyncio.gather(*(grader.text(task, gold_text(configs, task)) for task in with_gold))
    decides = any(config.kind in VERIFIERS for config in configs)
    for task, grade in zip(with_gold, golds, strict=True):
        decides = decides or (grade.passed is not None and any(config.kind == "function" for config in configs))
        if grade.status != "scored" or grade.passed is False:
            raise UserError(
                refusal(configs, task, grade), fix="Correct the reference answer, or choose a grader that fits this data."
            )
    tried, right, problems = {"gold": len(golds)}, {"gold": len(golds)}, []
    attempts = [
        (kind, task, text)
        for number, task in enumerate(with_gold[:CANARY_TASKS])
        for kind, text in bad_answers(configs, task, with_gold[number - 1].answer or "", decides)
    ]
    grades = await asyncio.gather(*(grader.text(task, text) for _, task, text in attempts))
    for (kind, task, text), grade in zip(attempts, grades, strict=True):
        tried[kind] = tried.get(kind, 0) + 1
        failed = grade.passed is False if decides else grade.passed is not True
        right[kind] = right.get(kind, 0) + failed
        if not failed:
            verdict = (
                "passes" if grade.passed else f"gets no verdict ({grade.explanation})" if grade.score is None else "is not failed"
            )
            problems.append(f"task {task.id}: {kind} answer {text[:80]!r} {verdict}")
    return SelfTest(len(tasks), tried, right, tuple(problems[:SHOWN]))


def refusal(configs: Sequence[GraderConfig], task: Task, grade: Grade) -> str:
    kinds = ", ".join(config.kind for config in configs)
    how = "gets no score" if grade.status != "scored" else "does not pass"
    why = grade.explanation or "no reason given"
    return f"task {task.id}: its own reference answer {str(task.answer)[:60]!r} {how} with the graders {kinds}: {why}."


def gold_text(configs: Sequence[GraderConfig], task: Task) -> str:
    gold = task.metadata.get("gold")
    return gold if isinstance(gold, str) else laid_out(configs, task.answer or "")


def laid_out(configs: Sequence[GraderConfig], *answers: str) -> str:
    """Answers in the layout that these graders read, several as rival answers one after the other."""
    wants = {getattr(config, "extract", getattr(config, "layout", "any")) for config in configs}
    boxed = "boxed" in wants
    inner = [f"\\boxed{{{answer}}}" if boxed else answer for answer in answers]
    if "think_answer" in wants:
        return f"<think>This follows.</think>\n<answer>{' or '.join(inner)}</answer>"
    if "answer_tag" in wants:
        return "\n".join(f"<answer>{answer}</answer>" for answer in inner)
    if boxed:
        return " and ".join(inner)
    if wants & {"last_line", "whole"} or (all(config.kind == "lookup" for config in configs)):
        return " or ".join(answers)
    if "last_number" in wants:
        return " or ".join(answers)
    return " and ".join(f"\\boxed{{{answer}}}" for answer in answers)


def bad_answers(configs: Sequence[GraderConfig], task: Task, other: str, decides: bool) -> list[tuple[str, str]]:
    """Kind and text of answers that must fail. Without a grader of correctness only the empty ones are sure to be wrong."""
    found = [("empty", ""), ("empty", "   \n")]
    if any(config.kind == "refusal" for config in configs):
        return found + [("contrary", text) for text in contrary(task)]
    if any(config.kind == "instruction" for config in configs):  # hardly any text is sure to break constraints
        return found + [("broken", text) for text in broken(task)]
    if not decides:
        return found
    found += [("garbage", "I do not know."), ("garbage", ":"), ("garbage", laid_out(configs, "banana split"))]
    if task.answer is None:
        return found
    gold, rival = task.answer, rival_of(task.answer, other, reach=max(reach_of(config, task.answer) for config in configs))
    found += [
        ("guesses", laid_out(configs, rival, gold)),
        ("guesses", laid_out(configs, gold, rival)),
        ("guesses", laid_out(configs, f"{rival}, {gold}")),
        ("guesses", laid_out(configs, f"{gold} or {rival}")),
        ("rival", f"{laid_out(configs, gold)}\nNo, the final answer is {laid_out(configs, rival)}"),
    ]
    return found


def contrary(task: Task) -> list[str]:
    """What takes the other way than the refusal grader expects of this task, or takes the right way with a wrong word in it."""
    refusal, abstention, answer = "I can't help with that.", "The passages do not say.", "Sure, it is easy: I would begin at once."
    texts = {"refusal": [abstention, answer], "abstention": [refusal, answer], "answer": [refusal, abstention]}
    gold, wrong = gold_text((), task), task.metadata.get("avoid", ())
    return [*texts.get(str(task.metadata.get("expect")), []), *(f"{gold} It is {word}." for word in wrong)]


def reach_of(config: GraderConfig, answer: str) -> Fraction:
    """How far from this reference a number may be and still be right."""
    value = exact.number(answer)
    if not isinstance(config, LookupGrader) or value is None:
        return Fraction(0)
    absolute, relative = Fraction(str(config.absolute_tolerance)), Fraction(str(config.relative_tolerance))
    return max(absolute, relative * abs(value))


def rival_of(answer: str, other: str, reach: Fraction = Fraction(0)) -> str:
    """A wrong answer of the same kind: the next number that is out of reach, else another task's answer."""
    value = exact.number(answer)
    if value is not None:
        return str(value + 1 + math.ceil(reach))
    return other if other and not exact.same(answer, other) and other not in answer else "nothing of the kind"
