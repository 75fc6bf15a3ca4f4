r"""Answers that equal the reference and still answer nothing: the sum handed back unworked, the question copied, text hidden.

`What is 17 + 25?` answered by `17+25` is equal to 42 for any computer algebra, and so the first thing a policy would learn.
Where the reference is a number, an answer made of plain numbers and signs alone is a calculation that was not carried out, and
a fraction whose value is whole was not divided; roots, powers, factorials and logarithms stand. An expression that the question
holds as it is counts as copied, and so does a number where the question asks for another form of it; a fraction is in lowest
terms where the question asks for them. Commands that math-verify drops while a reader sees something else (\phantom, \cancel,
\not) are not part of an answer.
Fails where the question holds its own answer in other words than the reference, as a choice among expressions does; and a task
to factor or expand cannot tell how far an answer went: any equal expression that is not the question's own passes.
"""

from __future__ import annotations

import math
import re

from posttrain.core.types import Task
from posttrain.graders import exact

_hiding = re.compile(
    r"\\(?:phantom|hphantom|vphantom|color|textcolor|cancel|bcancel|xcancel|sout|not|lnot|neg|sim|hspace|kern|iffalse|tiny)(?![a-zA-Z])"
)
_relations = re.compile(r"\\not\s*=")
_plain_signs = re.compile(r"\\(?:times|cdot|div|frac)(?![a-zA-Z])")
_two_numbers = re.compile(r"[\d)}!%]\s*(?:[-+*/]|\\times|\\cdot|\\div)\s*[-+({\d\\.]")
_asks_for_lowest_terms = re.compile(r"\b(?:simplify|simplified|reduced?|lowest terms|simplest form)\b", re.I)
_fraction = re.compile(r"^[-+]?(?:(\d+)/(\d+)|\\frac\{(\d+)\}\{(\d+)\})$")
_asks_for_a_form = re.compile(r"\b(?:express|convert|write|rewrite|simplify|reduce|lowest|as an?|in the form|base)\b", re.I)
_more_than_a_name = re.compile(r"[-+*/^\\!]|\d[A-Za-z]|[A-Za-z]\d")


def unfinished(task: Task, answer: str) -> str:
    """Why an answer is none although it may be equal to the reference; empty where nothing speaks against it."""
    reference = task.answer or ""
    if exact.squeeze(answer) == exact.squeeze(reference):
        return ""
    if _hiding.search(_relations.sub("", answer)) and not _hiding.search(reference):
        return "it uses a command that hides or strikes out"
    value = exact.number(reference)
    if value is not None and not_worked_out(answer, whole=value.denominator == 1):
        return "the calculation was not carried out"
    question = next((message.content for message in reversed(task.messages) if message.role == "user"), "")
    if _asks_for_lowest_terms.search(question) and (match := _fraction.match(exact.tidy(answer).replace(" ", ""))):
        above, below = (int(digits) for digits in match.groups() if digits is not None)
        if math.gcd(above, below) > 1:
            return "the fraction is not in lowest terms"
    return "it is copied from the question" if copied(question, answer) else ""


def not_worked_out(answer: str, whole: bool) -> bool:
    """True for sums and products of plain numbers. `17+25=42` is worked out: one of its sides is a written number."""
    sides = [exact.split_unit(side)[0] for side in exact.tidy(answer).split("=")]
    if any(exact.number(side) is not None and not (whole and is_division(side)) for side in sides):
        return False
    last = sides[-1].strip()
    if re.search(r"[A-Za-z\\]", _plain_signs.sub("", last)):
        return False
    return is_division(last) or bool(_two_numbers.search(last))


def is_division(text: str) -> bool:
    r"""A fraction of plain numbers with a whole value, such as 144/12 or \frac{8}{2}, but not 12/1."""
    value = exact.number(text)
    text = exact.tidy(text).replace(" ", "")
    divided = "/" in text or "\\frac" in text
    return divided and value is not None and value.denominator == 1 and not re.search(r"(?:/|\}\{)1\}?$", text)


def copied(question: str, answer: str) -> bool:
    """An expression, not just a name, that stands in the question as it is; a number where another form of it was asked for."""
    bare = exact.squeeze(answer).replace(" ", "")
    if exact.number(bare) is not None:
        if not _asks_for_a_form.search(question):
            return False
    elif len(bare) < 3 or "=" in bare or not _more_than_a_name.search(bare):
        return False
    if "," in bare:
        return False  # points, intervals and lists are often named in a question and meant as given
    spaced = r"\s*".join(re.escape(character) for character in bare)
    bounded = rf"(?<![\w.^+*/-]){spaced}(?!\s*[\d^+*/-]|\w|\.\d)"
    return re.search(bounded, exact.tidy(question)) is not None
