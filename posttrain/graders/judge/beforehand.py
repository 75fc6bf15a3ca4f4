"""What is decided before the judge is asked: reasoning is taken off, and answers without an answer get the minimum.

Generative judges pass a lone ":" or "Thought process:" as correct in up to 80 % of cases (arXiv:2507.08794, "master keys"), and
neither reasoning nor voting of the judge helps. So what holds no letter and no digit, is one of the known openers and nothing
else, or only repeats the question, never reaches it. Assumes that a good answer says something; fails for an opener that is not
listed, which is why calibration tries unlisted ones.
"""

from __future__ import annotations

import re
import unicodedata

THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
OPENERS = (
    "thought process",
    "lets solve this problem step by step",
    "lets think step by step",
    "let me think",
    "let me think about this",
    "step by step",
    "solution",
    "answer",
    "final answer",
    "the answer is",
    "the final answer is",
    "explanation",
    "reasoning",
    "here is the answer",
    "here is the solution",
    "sure",
    "okay",
    "of course",
    "解",
    "解答",
    "かいせつ",
    "respuesta",
    "solución",
    "lösung",
    "réponse",
)


def shown_answer(text: str) -> str:
    """The answer without its reasoning: without whole `<think>` blocks, and without everything after one that never ends."""
    return THINKING.sub("", text).strip()


def is_empty(answer: str, question: str) -> bool:
    """True for nothing, signs without words, known openers alone (also several, or one repeated), and the question itself."""
    words = plain(answer)
    if not words:
        return True
    rest = words
    for opener in sorted((plain(each) for each in OPENERS), key=len, reverse=True):
        rest = re.sub(rf"(?<!\w){re.escape(opener)}(?!\w)", " ", rest)
    return not rest.strip() or words == plain(question)


def plain(text: str) -> str:
    """Lower-case words with single spaces between them; apostrophes close up and all other signs part words."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    closed = re.sub(r"['’‘`]", "", folded)
    return " ".join(re.sub(r"[\W_]+", " ", closed).split())
