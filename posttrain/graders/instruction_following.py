"""How many of its constraints an answer keeps (IFEval, arXiv:2311.07911): score = the share kept, passed = all of them.

Constraints come with the task (`metadata.constraints`, a list of what core/config/instruction.py describes) and from the
settings. Reasoning is cut off first and one answer tag around everything is taken off. The loose form is IFEval's: a constraint is
kept if it is kept by the text, or by the text without its first line, its last line, both, each also without asterisks. An empty
text keeps nothing, because most prohibitions are kept by silence.
Fails as a measure of help: words that keep every constraint may be empty of sense. Add a judge, or a length, where that matters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from posttrain.core.config import Constraint, InstructionGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Task
from posttrain.graders import extract, json_schema, language_share
from posttrain.graders.constraints import CHECKS

_tagged = re.compile(r"\s*<answer>((?:(?!</?answer>).)*)</answer>\s*", re.S)
_adapter: TypeAdapter[tuple[Constraint, ...]] = TypeAdapter(tuple[Constraint, ...])


def check(config: InstructionGrader) -> None:
    """Raises UserError for constraints in the settings that could never be judged."""
    for constraint in config.constraints:
        try:
            usable(constraint)
        except ValueError as error:
            raise UserError(f"constraint {constraint.kind}: {error}.", fix="Correct it, or remove it.") from None


def usable(constraint: Constraint) -> None:
    if constraint.schema is not None:
        json_schema.validator(json.dumps(constraint.schema, sort_keys=True))
    if constraint.language and constraint.language not in language_share.LANGUAGES:
        raise ValueError(f"language is {constraint.language!r}; expected one of {', '.join(language_share.LANGUAGES)}")


def grade(config: InstructionGrader, task: Task, text: str) -> Grade:
    try:
        constraints = (*config.constraints, *of_task(task))
    except ValueError as error:
        return Grade.error(f"metadata.constraints of task {task.id}: {error}")
    if not constraints:
        return Grade.unscored(f"task {task.id} has no constraints")
    text = extract.after_thinking(text)
    answer = match[1].strip() if (match := _tagged.fullmatch(text)) else text.strip()
    forms = [answer] if config.strictness == "strict" else list(loosened(answer))
    try:
        problems = [broken(constraint, forms) for constraint in constraints]
    except json_schema.BadSchema as error:
        return Grade.error(f"a constraint of task {task.id}: {error}")
    kept = [float(not problem) for problem in problems]
    why = "; ".join(problem for problem in problems if problem)
    parts = dict(zip(numbered([constraint.kind for constraint in constraints]), kept, strict=True))
    return Grade(sum(kept) / len(kept), all(kept), answer=answer, explanation=why, parts=parts)


def broken(constraint: Constraint, forms: Sequence[str]) -> str:
    """What is wrong with the first form of the text, unless another form keeps the constraint."""
    found = [CHECKS[constraint.kind](constraint, form) if form.strip() else "the text is empty" for form in forms]
    return "" if "" in found else found[0]


def of_task(task: Task) -> tuple[Constraint, ...]:
    """The task's own constraints. Raises ValueError in words for what is not one."""
    given = task.metadata.get("constraints", ())
    return read(json.dumps(given, default=list, sort_keys=True)) if given else ()


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[Constraint, ...]:
    try:
        constraints = _adapter.validate_json(text, strict=True)
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'the list'}: {first['msg']}") from None
    for constraint in constraints:
        usable(constraint)
    return constraints


def loosened(text: str) -> Iterator[str]:
    """The text and IFEval's seven variants of it."""
    lines = text.split("\n")
    for form in (text, "\n".join(lines[1:]), "\n".join(lines[:-1]), "\n".join(lines[1:-1])):
        yield form.strip()
        yield form.replace("*", "").strip()


def numbered(kinds: Sequence[str]) -> list[str]:
    """A name for each constraint: its kind, numbered from the second of a kind on."""
    return [kind if (before := kinds[:at].count(kind)) == 0 else f"{kind}_{before + 1}" for at, kind in enumerate(kinds)]
