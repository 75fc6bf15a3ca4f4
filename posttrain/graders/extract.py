"""Where the answer stands in what the model wrote: a box, an answer tag, the last number, the last line.

One text, one answer. Boxes or tags that differ or never close, a list of guesses at the end, a negated number, and a
different number claimed after the final answer are all no answer, because a policy that may guess several times learns
to. Reasoning in <think>…</think> is cut off first, and a <think> that never closes leaves nothing to extract.
Fails where a text gives its answer in a sentence that ends with another number ("42 apples, counted 2 times"): ask for
a box or a tag where the answer matters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

NUMBER = r"(?:(?<![\w.])[-−+])?\\?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s?/\s?\d+)?(?:\s?\\?%)?|(?<![\w.])[-−+]?\.\d+"
_number = re.compile(NUMBER)
_listed = re.compile(
    r"^(?:\s|,|;|\||&|or|and|maybe|perhaps|possibly|alternatively|either|also|else|it|is|be|could|might|not|no)*$", re.I
)
_hedges = re.compile(r"\b(?:or|maybe|perhaps|possibly|alternatively|either|and)\b|[,;|&]", re.I)
_negated = re.compile(r"(?:\bnot|\bisn't|\bnever|≠|\\neq?)\s*(?:equal\s+to\s+|be\s+)?\$?$", re.I)
_bare_line = re.compile(rf"^\s*(?:[-*•]|\d+[.)])?\s*(?P<number>{NUMBER})\s*[.,;?!]?\s*$")
_linking = (
    r"(?:is|are|was|be|should|would|could|must|equals|to|actually|instead|rather|really|in|fact|it|the|that|its|answer|number)"
)
_claim = re.compile(
    r"\b(?:answers?|results?|totals?|solutions?|actually|instead|rather|or|maybe|perhaps|possibly)\b"
    rf"[\s:*$=(,]*(?:{_linking}\b[\s:*$=(]*)*(?P<number>{NUMBER})",
    re.I,
)
_box = re.compile(r"\\f?boxe?d?\s*\{")
_tag = re.compile(r"<answer>(.*?)</answer>", re.S)


@dataclass(frozen=True, slots=True)
class Extracted:
    """The answer as written, or None with the reason why there is none."""

    answer: str | None
    reason: str = ""


Same = Callable[[str, str], bool]


def after_thinking(text: str) -> str:
    """What follows the reasoning. Nothing follows a <think> that never closes."""
    _, closed, rest = text.rpartition("</think>")
    text = rest if closed else text
    return text.partition("<think>")[0]


def box_spans(text: str) -> list[tuple[str, int]]:
    """Content and end of every box whose braces balance, in order; a box inside a box counts once."""
    found: list[tuple[str, int]] = []
    start = 0
    while match := _box.search(text, start):
        depth, end = 1, match.end()
        while end < len(text) and depth:
            escaped = text[end - 1] == "\\" and text[end - 2 : end] != "\\\\"
            depth += 0 if escaped else {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if depth:
            break
        found.append((text[match.end() : end - 1].strip(), end))
        start = end
    return found


def boxes(text: str) -> list[str]:
    r"""Contents of every \boxed{…} or \fbox{…}."""
    return [content for content, _ in box_spans(text)]


def from_boxes(text: str, same: Same) -> Extracted:
    spans = box_spans(text)
    if _box.search(text, spans[-1][1] if spans else 0):
        return Extracted(None, "a box never closes")
    if not spans:
        return Extracted(None, "no \\boxed{} answer")
    return one_of([content for content, _ in spans], text[spans[-1][1] :], same)


def from_tag(text: str, same: Same) -> Extracted:
    matches = list(_tag.finditer(text))
    if "<answer>" in text[matches[-1].end() if matches else 0 :]:
        return Extracted(None, "an answer tag never closes")
    if not matches:
        return Extracted(None, "no <answer>…</answer>")
    found = [match[1].strip() for match in matches]
    if any(boxes(content) for content in found):
        inner = [from_boxes(content, same) for content in found]
        if broken := next((answer for answer in inner if answer.answer is None), None):
            return broken
        found = [answer.answer or "" for answer in inner]
    return one_of(found, text[matches[-1].end() :], same)


def one_of(found: list[str], tail: str, same: Same) -> Extracted:
    """The one answer that all of `found` agree on, unless what follows claims another number."""
    answer = found[-1]
    if any(not same(answer, other) for other in found[:-1]):
        return Extracted(None, f"{len(found)} answers that differ")
    if not answer:
        return Extracted(None, "the answer is empty")
    claimed = [match["number"].strip() for match in _claim.finditer(tail)]
    if any(not same(answer, number) for number in claimed):
        return Extracted(None, "another number is claimed after the answer")
    return Extracted(answer)


def from_last_number(text: str, same: Same) -> Extracted:
    matches = list(_number.finditer(text))
    if not matches:
        return Extracted(None, "no number in the text")
    last = matches[-1]
    answer = last[0].strip()
    if _negated.search(text[: last.start()]):
        return Extracted(None, "the last number is negated")
    if len(matches) > 1 and not same(answer, matches[-2][0].strip()):
        between = text[matches[-2].end() : last.start()]
        if "\n" not in between.strip(" \t") and is_list(between):
            return Extracted(None, "the text ends with a list of numbers")
        if "\n" in between and ((_hedges.search(between) and is_list(between)) or lists_lines(text, same)):
            return Extracted(None, "the text ends with a list of numbers")
        if re.search(r"\b(?:or|maybe|perhaps|possibly|alternatively|either)\b[^\d=]*$", between, re.I):
            return Extracted(None, "the text ends with a guess among several")
    return Extracted(answer)


def is_list(between: str) -> bool:
    return bool(_listed.match(re.sub(r"[.?!:$*()\[\]{}\\]", " ", between)))


def lists_lines(text: str, same: Same) -> bool:
    """True if the last two lines with anything on them are bare numbers that differ."""
    lines = [line for line in text.splitlines() if line.strip()][-2:]
    bare = [match["number"].strip() for line in lines if (match := _bare_line.match(line))]
    return len(bare) == 2 and not same(*bare)


def from_any(text: str, same: Same) -> Extracted:
    """The boxed answer, else the tag, else the last number; a box and a tag must agree."""
    boxed, tagged = from_boxes(text, same), from_tag(text, same)
    has_box, has_tag = bool(_box.search(text)), "<answer>" in text
    if has_box and has_tag:
        if boxed.answer is None or tagged.answer is None:
            return boxed if boxed.answer is None else tagged
        return boxed if same(boxed.answer, tagged.answer) else Extracted(None, "the box and the answer tag differ")
    if has_box:
        return boxed
    return tagged if has_tag else from_last_number(text, same)


def last_line(text: str, same: Same) -> Extracted:
    line = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    return Extracted(line) if line else Extracted(None, "the text is empty")


def whole(text: str, same: Same) -> Extracted:
    return Extracted(text.strip()) if text.strip() else Extracted(None, "the text is empty")


def tag_or_last_line(text: str, same: Same) -> Extracted:
    return from_tag(text, same) if "<answer>" in text else last_line(text, same)


MATH = {"boxed": from_boxes, "answer_tag": from_tag, "last_number": from_last_number, "any": from_any}
LOOKUP = {"answer_tag": from_tag, "last_line": last_line, "whole": whole, "any": tag_or_last_line}
