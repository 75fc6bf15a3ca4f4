"""What is too large to be worth a symbolic check. Cheap, and done before the clock of a check starts.

Computer algebra can be made to work for hours by a short text (9^{9^9}, (10^9)!, hundreds of brackets). An answer beyond
these limits is not accepted as an answer; a reference beyond them can only be matched as text.
"""

from __future__ import annotations

import re

LONGEST = 512
DEEPEST = 20
LARGEST_EXPONENT = 5_000
LARGEST_FACTORIAL = 3_000
LONGEST_NUMBER = 100

_exponent = re.compile(r"(?:\^|\*\*)[\s{(+-]*(\d+)")
_tower = re.compile(r"(?:\^|\*\*)[\s{(+-]*[\d.]+[\s})]*(?:\^|\*\*|!)|[\d})]\s*(?:\^|\*\*)\s*[{(][^{}()]*\d\s*(?:\^|\*\*)")
_factorial = re.compile(r"(\d+)[\s})]*!")
_repeated = re.compile(r"\\(?:sum|prod|int|iint|oint|lim|bigcup|bigcap)(?![a-zA-Z])")


def beyond(text: str) -> str:
    """Why an expression is too large to check; empty if it is not."""
    if len(text) > LONGEST:
        return f"{len(text)} characters, more than {LONGEST}"
    if depth(text) > DEEPEST:
        return f"brackets more than {DEEPEST} deep"
    if re.search(rf"\d{{{LONGEST_NUMBER + 1}}}", text):
        return f"a number of more than {LONGEST_NUMBER} digits"
    if any(int(digits) > LARGEST_EXPONENT for digits in _exponent.findall(text)):
        return f"an exponent above {LARGEST_EXPONENT}"
    if _tower.search(text) or text.count("^") > 24:
        return "a tower of powers"
    if "!!" in text or any(int(digits) > LARGEST_FACTORIAL for digits in _factorial.findall(text)):
        return f"a factorial above {LARGEST_FACTORIAL}"
    if re.search(r"[)}]\s*!", text) and "^" in text:
        return "a factorial of a power"
    if _repeated.search(text):
        return "a sum, product, integral or limit that was not worked out"
    return ""


def depth(text: str) -> int:
    deepest = level = 0
    for character in text:
        level += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        deepest = max(deepest, level)
    return deepest
