"""The answer keeps a layout. Score 1 or 0.

`think_answer`: <think>…</think> then <answer>…</answer>, once each, neither empty, nothing before, between or after but spaces
(the format reward of DeepSeek-R1, arXiv:2501.12948). `boxed`: exactly one balanced box, in the last paragraph, not empty,
outside the reasoning.
"""

from __future__ import annotations

import re

from posttrain.core.config import FormatGrader
from posttrain.core.types import Grade
from posttrain.graders import extract

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_think_answer = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.S)


def grade(config: FormatGrader, text: str) -> Grade:
    problem = LAYOUTS[config.layout](text)
    return Grade(float(not problem), not problem, explanation=problem)


def think_answer(text: str) -> str:
    """What is wrong with the layout; empty if nothing is."""
    for tag in TAGS:
        if (count := text.count(tag)) != 1:
            return f"{tag} occurs {count} times, not once"
    match = _think_answer.fullmatch(text)
    if not match:
        return "text outside the tags, or tags out of order"
    if not match[1].strip():
        return "the reasoning is empty"
    return "" if match[2].strip() else "the answer is empty"


def boxed(text: str) -> str:
    final = extract.after_thinking(text)
    spans = extract.box_spans(final)
    if len(spans) != 1:
        return f"{len(spans)} boxed answers, not one"
    content, end = spans[0]
    if not content:
        return "the box is empty"
    return "a paragraph follows the box" if re.search(r"\n\s*\n\s*\S", final[end:]) else ""


LAYOUTS = {"think_answer": think_answer, "boxed": boxed}
