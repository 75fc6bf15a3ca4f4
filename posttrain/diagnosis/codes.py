"""Why a rollout failed, in one word. The first code that applies wins, so that every failure has exactly one.

Read from records alone: no model judges, so the code is a reading of symptoms, not of causes. `wrong` is what is left: an
answer in the right place, in the right language, that is not the reference. Refusals are recognised in English only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from posttrain.core.text import repeated_share

if TYPE_CHECKING:
    from posttrain.records.rollouts import RolloutRecord

REFUSAL = re.compile(
    r"\W*(i['’]?m (very )?sorry|i am (very )?sorry|sorry[,.]|i apologi[sz]e|i can(no|['’])t|i am unable|i['’]m unable|i won['’]t|"
    r"i will not|as an ai\b|as a language model)",
    re.IGNORECASE,
)
BEGINNINGS = re.compile(r"\A|</think>|<answer>")
LOOPING = 0.5
LEAST_LETTERS = 8


def grader_error(record: RolloutRecord) -> bool:
    """No verdict: the grader broke or was silent, or the rollout itself failed. Not the model's failure."""
    return record.grade_status != "scored" or record.rollout_status == "failed"


def refusal(record: RolloutRecord) -> bool:
    """The text, or what follows its thinking, begins as refusals begin."""
    return any(REFUSAL.match(record.completion, found.end()) for found in BEGINNINGS.finditer(record.completion))


def wrong_language(record: RolloutRecord) -> bool:
    """The language grader says so; without one, most letters are of a script that the prompt does not use."""
    graded = record.parts.get("language")
    if graded is not None:
        return graded < 0.5
    written = scripts(record.completion)
    asked = scripts(" ".join(message["content"] for message in record.prompt) + (record.reference or ""))
    known = sum(count for script, count in written.items() if script in asked)
    return written.total() >= LEAST_LETTERS and 2 * known < written.total()


def repetition(record: RolloutRecord) -> bool:
    """At least half of the 4-grams stood in the answer before. Checked before truncation: a loop ends at the limit."""
    return repeated_share(record.completion) >= LOOPING


def truncated(record: RolloutRecord) -> bool:
    return record.finish == "length" or record.rollout_status == "truncated"


def format_missed(record: RolloutRecord) -> bool:
    """No answer could be extracted, or the right one stands in the last line but not where the grader looks."""
    if record.answer is None:
        return True
    lines = record.completion.strip().splitlines()
    if not lines or not record.reference or record.answer == record.reference:
        return False
    found = re.compile(rf"(?<![\w.]){re.escape(record.reference)}(?!\w|\.\d)")
    return bool(found.search(lines[-1])) and not any(found.search(message["content"]) for message in record.prompt)


def wrong(record: RolloutRecord) -> bool:
    return True


CODES: dict[str, Callable[[RolloutRecord], bool]] = {
    "grader_error": grader_error,
    "refusal": refusal,
    "wrong_language": wrong_language,
    "repetition": repetition,
    "truncated": truncated,
    "format": format_missed,
    "wrong": wrong,
}


def failure_code(record: RolloutRecord) -> str | None:
    """The code of a failed rollout; None for one that passed, and for one that has a score but no verdict of right or wrong."""
    if record.grade_status == "scored" and record.rollout_status != "failed" and record.passed is not False:
        return None
    return next(code for code, applies in CODES.items() if applies(record))


def scripts(text: str) -> Counter[str]:
    """Letters by script: the first word of the character's Unicode name, such as LATIN, CYRILLIC or CJK."""
    return Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in text if letter.isalpha())
