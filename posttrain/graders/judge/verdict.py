"""The verdict of a judge's reply, as the probability of its first option (Yes, or A).

Where the reply names the likeliest tokens, the probability is P(first) / (P(first) + P(second)) at the place of the verdict: the
first token that is not blank, or with a reason the token after `"verdict":`. It is finer than a word, and needs no luck in
sampling. Where the two options hold less than MASS there together, or no alternatives are given, the text decides, and it must be
exactly one of the options or the JSON that was asked for. Everything else is Unreadable, and never a verdict.
"""

from __future__ import annotations

import contextlib
import json
import math
import re

from posttrain.core.types import Reply, TokenChoice
from posttrain.graders.judge.beforehand import shown_answer

MASS = 0.1
VERDICT = re.compile(r'"verdict"\s*:\s*"?\s*$')


class Unreadable(Exception):
    """The judge replied, and its reply holds no verdict."""


def read_verdict(reply: Reply, options: tuple[str, str], *, reasoning: bool, probabilities: bool) -> float:
    """How probable the first option is, by the reply."""
    if probabilities and (found := by_probability(reply.choices, options, reasoning)) is not None:
        return found
    return 1.0 if by_text(reply.text, options, reasoning) == options[0] else 0.0


def readable(reply: Reply) -> bool:
    """Whether a reply holds a verdict on any question that a judge is asked: others are asked for again by a later run."""
    for options in (("Yes", "No"), ("A", "B")):
        for reasoning in (False, True):
            with contextlib.suppress(Unreadable):
                read_verdict(reply, options, reasoning=reasoning, probabilities=True)
                return True
    return False


def by_probability(choices: tuple[TokenChoice, ...], options: tuple[str, str], reasoning: bool) -> float | None:
    written = ""
    for choice in choices:
        here = bool(VERDICT.search(written)) if reasoning else not written.strip()
        if here and choice.text.strip('" \n\t'):
            first, second = (mass(choice, option) for option in options)
            return first / (first + second) if first + second >= MASS else None
        written += choice.text
    return None


def mass(choice: TokenChoice, option: str) -> float:
    """The probability of an option at one place: of every likely token that reads as it (`Yes`, ` yes`, `YES`)."""
    return sum(math.exp(logprob) for text, logprob in choice.top if text.strip(' "*').casefold() == option.casefold())


def by_text(text: str, options: tuple[str, str], reasoning: bool) -> str:
    answer = shown_answer(text)
    said = from_json(answer) if reasoning else answer.strip().strip('"*.').strip()
    for option in options:
        if said.casefold() == option.casefold():
            return option
    raise Unreadable(f"the judge replied {text[:80]!r}; expected {' or '.join(options)}")


def from_json(text: str) -> str:
    """The verdict of `{"reason": ..., "verdict": ...}` and nothing else; a fence of backticks around it is passed over."""
    inner = re.sub(r"\A```(?:json)?\s*|\s*```\Z", "", text.strip())
    try:
        value = json.loads(inner)
    except (ValueError, RecursionError):
        raise Unreadable(f"the judge replied {text[:80]!r}, which is not the JSON asked for") from None
    if not isinstance(value, dict) or set(value) != {"reason", "verdict"} or not isinstance(value["verdict"], str):
        raise Unreadable(f"the judge replied {text[:80]!r}; expected an object with reason and verdict")
    return value["verdict"].strip()
