"""The answer is the reference, or one of its aliases: as text, as a number with its unit, as a set, as a list, or by shared words.

`metadata.aliases` lists other right answers; `metadata.case_sensitive` keeps case where the task is about it. Text is equal
after normalising case, spaces, quotes and a final stop: "Paris, France" is not "Paris", and a list of guesses is not an answer.
Numbers are exact fractions, so a tolerance ends where it says. Sets and lists have as many items as the reference, each of them
right. F1 is SQuAD's (arXiv:1606.05250): the harmonic mean of precision and recall of the words, the best over the references.
F1 below 1 can be had by naming several candidates; prefer another comparison where a policy is trained on it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import takewhile

from posttrain.core.config import LookupGrader
from posttrain.core.types import Grade, Task
from posttrain.graders import exact, extract, units

QUOTES = "\"'`“”‘’«»*_"
_article = re.compile(r"\b(?:a|an|the)\b", re.I)
_last_and = re.compile(r"\s+and\s+(?=[^,;\n]*$)", re.I)
_item_mark = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")

Likeness = Callable[[str, str], float]
"""How far an answer is the reference: 1 is right."""


def grade(config: LookupGrader, task: Task, text: str) -> Grade:
    if task.answer is None or not task.answer.strip():
        return Grade.unscored(f"task {task.id} has no reference answer")
    aliases = task.metadata.get("aliases", ())
    if isinstance(aliases, str) or not all(isinstance(alias, str) for alias in aliases):
        return Grade.error(f"metadata.aliases of task {task.id} is not a list of texts")
    references = (task.answer, *aliases)
    if config.compare == "number" and any(value(reference) is None for reference in references):
        return Grade.unscored(f"a reference answer of task {task.id} is not a number")
    tidied = wording(config, keep_case=bool(task.metadata.get("case_sensitive", False)))
    alike = COMPARE[config.compare](config, tidied)
    found = extract.LOOKUP[config.extract](after(config, text), lambda left, right: tidied(left) == tidied(right))
    if found.answer is None:
        return Grade(0.0, False, explanation=found.reason)
    best = max(alike(reference, found.answer) for reference in references)
    passed = best >= config.pass_from
    return Grade(best, passed, answer=found.answer, explanation="" if passed else "not the reference or an alias of it")


def after(config: LookupGrader, text: str) -> str:
    """The text after the reasoning. A set or list may have a line for each item: bullets or numbers at the end become one line."""
    text = extract.after_thinking(text)
    if config.compare not in ("set", "list") or config.extract == "answer_tag" or "<answer>" in text:
        return text
    lines = [line for line in text.splitlines() if line.strip()]
    marked = list(takewhile(_item_mark.match, reversed(lines)))
    return config.separator.join(_item_mark.sub("", line) for line in reversed(marked)) if len(marked) > 1 else text


def wording(config: LookupGrader, *, keep_case: bool) -> Callable[[str], str]:
    """How words are written before they are compared."""

    def tidied(text: str) -> str:
        if "accents" in config.ignore:
            text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        if "punctuation" in config.ignore:
            text = "".join(" " if unicodedata.category(c)[0] == "P" else c for c in text)
        if "articles" in config.ignore:
            text = _article.sub(" ", text)
        return normalise(text, keep_case)

    return tidied


def normalise(text: str, keep_case: bool = False) -> str:
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    text = text.strip(QUOTES).removesuffix(".").strip(QUOTES).strip()
    return text if keep_case else text.casefold()


def text_alike(config: LookupGrader, tidied: Callable[[str], str]) -> Likeness:
    return lambda reference, answer: float(bool(tidied(answer)) and tidied(reference) == tidied(answer))


def number_alike(config: LookupGrader, tidied: Callable[[str], str]) -> Likeness:
    def alike(reference: str, answer: str) -> float:
        wanted, given = value(reference), value(answer)
        if wanted is None or given is None:
            return 0.0
        (right, right_unit), (written, written_unit) = wanted, given
        if right_unit and not written_unit and config.unit_required:
            return 0.0
        if right_unit and written_unit:
            if right_unit.measures != written_unit.measures:
                return 0.0
            written = written * written_unit.factor / right_unit.factor
        absolute, relative = (Fraction(str(limit)) for limit in (config.absolute_tolerance, config.relative_tolerance))
        return float(abs(written - right) <= max(absolute, relative * abs(right)))

    return alike


def value(text: str) -> tuple[Fraction, units.Unit | None] | None:
    """A number and its unit; None where there is not exactly one number, or words that are no unit follow it."""
    text = normalise(text, keep_case=True)
    digits, unit = exact.split_unit(text, letters=True)
    number = exact.number(digits)
    return None if number is None else (number, units.read(unit) if unit else None)


def items_alike(config: LookupGrader, tidied: Callable[[str], str]) -> Likeness:
    ordered = config.compare == "list"

    def alike(reference: str, answer: str) -> float:
        right, given = (items(text, config.separator, tidied) for text in (reference, answer))
        if not given or "" in given:
            return 0.0
        return float(given == right if ordered else len(given) == len(set(given)) and set(given) == set(right))

    return alike


def items(text: str, separator: str, tidied: Callable[[str], str]) -> Sequence[str]:
    """The parts of a list. An "and" before the last one parts as well, in the reference as in the answer."""
    text = text.strip().strip("{}[]()")
    if separator in text or "\n" in text:
        text = re.sub(rf"{re.escape(separator)}\s*and\s+(?=[^{re.escape(separator)}\n]*$)", separator, text, flags=re.I)
    text = _last_and.sub(separator, text)
    return [tidied(_item_mark.sub("", part)) for line in text.splitlines() if line.strip() for part in line.split(separator)]


def words_alike(config: LookupGrader, tidied: Callable[[str], str]) -> Likeness:
    def f1(reference: str, answer: str) -> float:
        right, given = (Counter(tidied(text).split()) for text in (reference, answer))
        shared = (right & given).total()
        return 2 * shared / (right.total() + given.total()) if shared else 0.0

    return f1


COMPARE: dict[str, Callable[[LookupGrader, Callable[[str], str]], Likeness]] = {
    "text": text_alike,
    "number": number_alike,
    "set": items_alike,
    "list": items_alike,
    "f1": words_alike,
}
