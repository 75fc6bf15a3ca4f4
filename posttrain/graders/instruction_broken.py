"""The nearest wrong answer: a text that keeps a task's constraints, changed so that it surely breaks one of them.

The self-test gives these to the grader before a run. Kinds without an entry have no small change that is sure to break them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from posttrain.core.config import Constraint
from posttrain.core.types import Task
from posttrain.graders.constraints import phrase
from posttrain.graders.instruction_following import of_task

_marks = re.compile(r"^[ \t]*(?:[-*•+]|\d{1,3}[.)])[ \t]+", re.M)


def broken(task: Task) -> list[str]:
    """One text for each constraint that can be broken for sure; none where the task brings no text that keeps them."""
    gold = task.metadata.get("gold")
    if not isinstance(gold, str):
        return []
    sure = [each for each in of_task(task) if each.kind in BREAK and (each.at_least or each.kind not in ONLY_TOO_FEW)]
    return [BREAK[each.kind](gold, each) for each in sure]


def counted(more: str, fewer: Callable[[str], str]) -> Callable[[str, Constraint], str]:
    """One too many where there is an upper bound, else too few."""

    def changed(gold: str, constraint: Constraint) -> str:
        return gold + more * (constraint.at_most + 1) if constraint.at_most is not None else fewer(gold)

    return changed


def more_items(gold: str, constraint: Constraint) -> str:
    """Items that go on counting, since a list out of order has no items and so not too many."""
    if constraint.at_most is None:
        return _marks.sub("", gold)
    first = len(re.findall(r"^\d+[.)]", gold, flags=re.M)) + 1
    return gold + "".join(f"\n{number}. more" for number in range(first, constraint.at_most + 2))


def without_words(gold: str, constraint: Constraint) -> str:
    for text in constraint.texts or (constraint.text,):
        gold = phrase(text.strip()).sub("", gold)
    return gold


ONLY_TOO_FEW = ("sections", "parts", "placeholders", "highlights")  # whose change takes away, which no upper bound minds
BREAK: dict[str, Callable[[str, Constraint], str]] = {
    "words": lambda gold, c: (
        gold + " more" * ((c.at_most or 0) + 1) if c.at_most else " ".join(gold.split()[: (c.at_least or 1) - 1])
    ),
    "sentences": counted(" And so on.", lambda gold: ""),
    "paragraphs": counted("\n\nAnd more.", lambda gold: ""),
    "bullets": counted("\n- more", lambda gold: _marks.sub("", gold)),
    "items": more_items,
    "sections": lambda gold, c: phrase(c.text).sub("Chapter", gold),
    "parts": lambda gold, c: gold.replace(c.text, " "),
    "placeholders": lambda gold, c: gold.replace("[", "("),
    "highlights": lambda gold, c: gold.replace("*", ""),
    "capital_words": lambda gold, c: gold.lower() if c.at_least else gold + " NOW" * ((c.at_most or 0) + 1),
    "keyword": lambda gold, c: without_words(gold, c) if c.at_least else gold + f" {c.text}" * ((c.at_most or 0) + 1),
    "include": without_words,
    "exclude": lambda gold, c: f"{gold} {c.texts[0]}",
    "one_of": lambda gold, c: f"{gold} or not",
    "starts_with": lambda gold, c: f"Well then. {gold}",
    "ends_with": lambda gold, c: f"{gold} That is all I can say.",
    "postscript": lambda gold, c: gold.replace(c.text, ""),
    "title": lambda gold, c: gold.replace("<<", "").replace(">>", ""),
    "quoted": lambda gold, c: f"{gold} Yes",
    "uppercase": lambda gold, c: f"{gold} so",
    "lowercase": lambda gold, c: f"{gold} So",
    "no_comma": lambda gold, c: f"{gold}, yes",
    "json": lambda gold, c: f"{gold} }}",
}
