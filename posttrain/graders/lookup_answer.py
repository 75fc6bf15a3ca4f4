"""The answer is the reference, or one of its aliases, after normalising case, spaces, quotes and a final stop.

`metadata.aliases` lists other right answers; `metadata.case_sensitive` keeps case where the task is about it. Exact
otherwise: "Paris, France" is not "Paris", and a list of guesses is not an answer. Right for names, dates and labels;
numbers that can be written in several ways belong to the math grader.
"""

from __future__ import annotations

import unicodedata

from posttrain.core.config import LookupGrader
from posttrain.core.types import Grade, Task
from posttrain.graders import extract

QUOTES = "\"'`“”‘’«»*_"


def grade(config: LookupGrader, task: Task, text: str) -> Grade:
    if task.answer is None or not task.answer.strip():
        return Grade.unscored(f"task {task.id} has no reference answer")
    aliases = task.metadata.get("aliases", ())
    if isinstance(aliases, str) or not all(isinstance(alias, str) for alias in aliases):
        return Grade.error(f"metadata.aliases of task {task.id} is not a list of texts")
    keep_case = bool(task.metadata.get("case_sensitive", False))

    def same(left: str, right: str) -> bool:
        return normalise(left, keep_case) == normalise(right, keep_case)

    found = extract.LOOKUP[config.extract](extract.after_thinking(text), same)
    if found.answer is None:
        return Grade(0.0, False, explanation=found.reason)
    passed = bool(normalise(found.answer, keep_case)) and any(same(found.answer, right) for right in (task.answer, *aliases))
    return Grade(float(passed), passed, answer=found.answer, explanation="" if passed else "not the reference or an alias of it")


def normalise(text: str, keep_case: bool = False) -> str:
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    text = text.strip(QUOTES).removesuffix(".").strip(QUOTES).strip()
    return text if keep_case else text.casefold()
