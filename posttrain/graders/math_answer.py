r"""Mathematical equality with the reference answer.

In order: extract one answer; what is not worked out is not an answer (unfinished.py); compare as text and as exact numbers
(exact.py), which decides most; words are compared as text; what is too large is not an answer (limits.py); the rest goes to
math-verify and a numeric check, which must agree before an answer is right, in a process that can be killed. Its clock starts
when the check starts. A wrong answer scores 0. A check that hangs, crashes or cannot tell gives an error or no score, never 0.
"""

from __future__ import annotations

import re

from posttrain.core.config import MathGrader
from posttrain.core.types import Grade, Task
from posttrain.graders import exact, extract
from posttrain.graders.limits import beyond
from posttrain.graders.processes import CheckFailed, Pool
from posttrain.graders.unfinished import unfinished

SYMBOLIC = ("posttrain.graders.symbolic", "prepare", ())

_command = re.compile(r"\\[a-zA-Z]+")
_word = re.compile(r"[A-Za-z]{2,}")
_text = re.compile(r"\\(?:text|textbf|textit|mbox)\s*\{([^{}]*)\}")
_roman = re.compile(r"\\(?:mathrm|mathit)\s*\{\s*([A-Za-z])\s*\}")  # math-verify reads \mathrm{e} as a unit and drops it
_joined = re.compile(r"\s*,?\s*(?:\\(?:text|textrm|mbox)\s*\{\s*(?:or|and)\s*\}|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z]))\s*")
_choice = re.compile(r"^(?:\\(?:text|textbf|mathrm|mathbf)\{)?\(?([A-Z])\)?\.?\}?$")
_mathematical = {
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "ln", "log",
    "exp", "sqrt", "pi", "pmatrix", "bmatrix", "frac",
}  # fmt: skip


def decide(config: MathGrader, task: Task, text: str) -> Grade | tuple[str, str]:
    """The grade where text and plain numbers decide it, else the (reference, answer) to check symbolically."""
    if task.answer is None or not task.answer.strip():
        return Grade.unscored(f"task {task.id} has no reference answer")
    found = extract.MATH[config.extract](extract.after_thinking(text), exact.same)
    if found.answer is None:
        return wrong(None, found.reason)
    if reason := unfinished(task, found.answer):
        return wrong(found.answer, f"the answer is not accepted: {reason}")
    verdict = quick(task.answer, found.answer)
    if isinstance(verdict, bool):
        return graded(verdict, found.answer, "" if verdict else "not equal to the reference")
    if reason := beyond(found.answer):
        return wrong(found.answer, f"the answer is not accepted: {reason}")
    if reason := beyond(task.answer):
        return Grade.unscored(f"the reference answer of task {task.id} can only be compared as text: {reason}")
    return verdict


def quick(reference: str, answer: str) -> bool | tuple[str, str]:
    verdict = exact.equal(reference, answer)
    if verdict is not None:
        return verdict
    letters = choice(reference), choice(answer)
    if letters[0] and letters[1]:
        return letters[0] == letters[1]
    pair = exact.without_units(reference, answer)
    if pair is None:
        return False
    if (verdict := exact.equal(*pair)) is not None:
        return verdict
    left, right = (both_signs(_roman.sub(r"\1", _joined.sub(", ", side))) for side in pair)
    if exact.number(left) is not None and "," in right and all(exact.number(item) is not None for item in right.split(",")):
        return False  # one number was asked for and several were given
    if words(left) or words(right):
        return plain(left) == plain(right) != ""
    return left, right


def choice(text: str) -> str:
    r"""The letter of `(B)`, `\text{B}` or `B.`; empty for anything else."""
    match = _choice.match(exact.tidy(text))
    return match[1] if match else ""


def both_signs(text: str) -> str:
    r"""`1 \pm x` as the two values it stands for, which math-verify does not read inside a fraction."""
    if text.count("\\pm") != 1 or "," in text or "=" in text:
        return text
    return ", ".join(text.replace("\\pm", sign) for sign in "+-")


def words(text: str) -> set[str]:
    """Words of a language, as opposed to names of functions and products of letters."""
    inside = " ".join(_text.findall(text))
    outside = _command.sub(" ", re.sub(r"\\(?:begin|end|mathrm|operatorname)\s*\{[^{}]*\}", " ", _text.sub(" ", text)))
    found = {word.lower() for word in _word.findall(outside) if len(word) > 3 or word.lower() in _function_words}
    return (found - _mathematical) | {word.lower() for word in _word.findall(inside)}


_function_words = {
    "is", "not", "the", "no", "it", "an", "or", "of", "to", "in", "be", "are", "was", "yes", "so", "if", "we",
    "he", "all", "any", "but",
}  # fmt: skip


def plain(text: str) -> str:
    text = re.sub(r"[^\w\s]", " ", _text.sub(r"\1", exact.tidy(text)))
    return " ".join(text.lower().split())


def graded(passed: bool, answer: str, explanation: str = "") -> Grade:
    return Grade(float(passed), passed, answer=answer, explanation=explanation)


def wrong(answer: str | None, explanation: str) -> Grade:
    return Grade(0.0, False, answer=answer, explanation=explanation)


async def grade(config: MathGrader, pool: Pool, task: Task, text: str) -> Grade:
    verdict = decide(config, task, text)
    if isinstance(verdict, Grade):
        return verdict
    reference, answer = verdict
    try:
        reply = await pool.ask({"reference": reference, "answer": answer})
    except CheckFailed as problem:
        return Grade(None, None, "error", answer=answer, explanation=f"comparing {answer[:80]!r}: {problem}")
    if reply["equal"] is None:
        return Grade(None, None, "unscored", answer=answer, explanation=reply["why"])
    return graded(bool(reply["equal"]), answer, reply["why"])


def pool(config: MathGrader) -> Pool:
    return Pool(SYMBOLIC, timeout_s=config.timeout_s)
