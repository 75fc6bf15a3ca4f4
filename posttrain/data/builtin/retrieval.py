"""Questions over retrieved passages that hold the answer, lack it, or are wrong: RAG recovery.

Options: cases, passages (how many). The cases: `stated` (the answer stands in one passage, others distract), `missing` (the
passages tell other things of what is asked about), `namesake` (they tell it, but of something with a similar name), `outdated`
(two dated passages disagree, the newer one holds), `false` (a passage contradicts what everybody knows, such as a capital).
In `missing` and `namesake` the right reply says that the passages do not tell; `metadata` says so for the refusal grader.
Names are invented, so an answer that is not in the passages cannot be known; the facts of `false` are families of the split.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from posttrain.data.builtin.facts import FACTS
from posttrain.data.builtin.lookup import CITIES, NAMES
from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet

STEMS = "Ald Bren Cor Dun Esk Fal Gren Hal Ist Jor Kel Lor Mar Nor Orl Pen Quin Rost Sel Tor Ulm Vor Wes Yar"
ENDINGS = "wick ford mere stad holm by ton dale berg field"
KINDS = ("Museum", "Library", "Theater", "Zoo", "Gallery", "Archive", "Aquarium", "Observatory")
YEARS = range(1990, 2025)
SHORTEST = 2


@dataclass(frozen=True)
class Attribute:
    """What passages tell of a place: how it is asked for, stated and answered, and the values it may have."""

    questions: tuple[str, ...]
    sentences: tuple[str, ...]
    reply: str
    unknown: str
    values: tuple[str, ...]


ATTRIBUTES = {
    "opened": Attribute(
        ("When did the {place} open?", "In which year did the {place} open?"),
        ("The {place} opened in {value}.", "Since {value} the {place} has been open.", "{value} was the {place}'s first year."),
        "The {place} opened in {value}",
        "when the {place} opened",
        tuple(str(year) for year in range(1850, 1990)),
    ),
    "city": Attribute(
        ("In which city is the {place}?", "Where is the {place}?"),
        ("The {place} stands in {value}.", "Guests find the {place} in {value}.", "{value} is home to the {place}."),
        "The {place} is in {value}",
        "where the {place} is",
        CITIES,
    ),
    "head": Attribute(
        ("Who leads the {place}?", "Who is in charge of the {place}?"),
        ("{value} leads the {place}.", "The {place} is led by {value}.", "{value} is in charge of the {place}."),
        "{value} leads the {place}",
        "who leads the {place}",
        NAMES,
    ),
    "staff": Attribute(
        ("How many people work at the {place}?", "How many employees does the {place} have?"),
        ("The {place} employs {value} people.", "{value} people work at the {place}.", "The {place} has {value} employees."),
        "{value} people work at the {place}",
        "how many people work at the {place}",
        tuple(str(count) for count in range(12, 400)),
    ),
    "ticket": Attribute(
        ("How much is a ticket for the {place}?", "What does a ticket for the {place} cost?"),
        ("A ticket for the {place} costs {value} dollars.", "The {place} charges {value} dollars.",
         "Entry to the {place} is {value} dollars."),
        "A ticket for the {place} costs {value} dollars",
        "what a ticket for the {place} costs",
        tuple(str(price) for price in range(10, 60)),
    ),
}  # fmt: skip
LEADS = ("Answer from the passages.", "Use only these search results.", "Here is what was found.", "Documents:", "Read and answer.")
UNKNOWN = (
    "The passages do not say {what}.",
    "I can't tell {what}: the passages do not mention it.",
    "None of the passages says {what}.",
    "That is not stated in the passages: they do not say {what}.",
)
CASES = ("stated", "missing", "namesake", "outdated", "false")
OPTIONS = {"cases": Option(CASES, CASES), "passages": Option((2, 3, 4), (2, 3))}

Case = tuple[list[str], str, str, str, dict[str, object], str]
"""Passages, question, reply (with {source}), short answer, metadata for the grader, family."""


def problem(stream: random.Random, picked: Picked) -> Problem:
    case, count = stream.choice(picked["cases"]), stream.choice(picked["passages"])
    passages, question, reply, answer, metadata, family = CASE[case](stream, count)
    order = stream.sample(range(len(passages)), len(passages))
    listed = [f"[{number}] {passages[index]}" for number, index in enumerate(order, start=1)]
    text = "\n".join([stream.choice(LEADS), *listed, f"Question: {question}"])
    reply = reply.replace("{source}", f"[{order.index(0) + 1}]")
    return Problem(
        key=f"{question} {' '.join(sorted(passages))}",
        question=text,
        answer=answer or reply,
        steps="",
        slices={"case": case, "passages": str(len(passages))},
        metadata=metadata,
        reply=reply,
        family=family,
    )


def place(stream: random.Random) -> str:
    return f"{stream.choice(STEMS.split())}{stream.choice(ENDINGS.split())} {stream.choice(KINDS)}"


def sentence(stream: random.Random, attribute: str, name: str, value: str) -> str:
    return stream.choice(ATTRIBUTES[attribute].sentences).format(place=name, value=value)


def others(stream: random.Random, name: str, attribute: str, count: int) -> list[str]:
    """Passages that tell other things than this attribute: of this place or of others."""
    found = []
    for _ in range(count):
        told = stream.choice([other for other in sorted(ATTRIBUTES) if other != attribute])
        about = name if stream.random() < 0.5 else place(stream)
        found.append(sentence(stream, told, about, stream.choice(ATTRIBUTES[told].values)))
    return found


def begun(stream: random.Random) -> tuple[str, str, Attribute, str, str]:
    """A place, an attribute of it, one value, and the question for it."""
    name, attribute = place(stream), stream.choice(sorted(ATTRIBUTES))
    asked = ATTRIBUTES[attribute]
    return name, attribute, asked, stream.choice(asked.values), stream.choice(asked.questions).format(place=name)


def answers(value: tuple[str, ...], wrong: str) -> dict[str, object]:
    return {"expect": "answer", "mentions": [list(value)], "avoid": [wrong]}


def stated(stream: random.Random, count: int) -> Case:
    name, attribute, asked, value, question = begun(stream)
    rival, wrong = place(stream), stream.choice([other for other in asked.values if other != value])
    passages = [sentence(stream, attribute, name, value), sentence(stream, attribute, rival, wrong)]
    passages += others(stream, name, attribute, count - SHORTEST)
    reply = asked.reply.format(place=name, value=value) + " {source}."
    return passages, question, reply, value, answers((value,), wrong), ""


def missing(stream: random.Random, count: int) -> Case:
    """One passage tells something else of the place, one the same of another place; the rest is about neither."""
    name, attribute, asked, wrong, question = begun(stream)
    told = stream.choice([other for other in sorted(ATTRIBUTES) if other != attribute])
    passages = [
        sentence(stream, told, name, stream.choice(ATTRIBUTES[told].values)),
        sentence(stream, attribute, place(stream), wrong),
    ]
    passages += others(stream, name, attribute, count - SHORTEST)
    return passages, question, unknown(stream, asked, name), "", {"expect": "abstention", "avoid": [wrong]}, ""


def namesake(stream: random.Random, count: int) -> Case:
    """The same first name, another kind of place: what the passage says is not about what is asked."""
    name, attribute, asked, wrong, question = begun(stream)
    stem, kind = name.split()
    rival = f"{stem} {stream.choice([other for other in KINDS if other != kind])}"
    passages = [sentence(stream, attribute, rival, wrong), *others(stream, rival, attribute, count - 1)]
    return passages, question, unknown(stream, asked, name), "", {"expect": "abstention", "avoid": [wrong]}, ""


def unknown(stream: random.Random, asked: Attribute, name: str) -> str:
    return stream.choice(UNKNOWN).format(what=asked.unknown.format(place=name))


def outdated(stream: random.Random, count: int) -> Case:
    name = place(stream)
    attribute = stream.choice(("head", "staff", "ticket"))  # what a year can change
    asked = ATTRIBUTES[attribute]
    value, wrong = stream.sample(asked.values, 2)
    old, new = sorted(stream.sample(YEARS, 2))
    passages = [f"({year}) {sentence(stream, attribute, name, told)}" for year, told in ((new, value), (old, wrong))]
    passages += others(stream, name, attribute, count - SHORTEST)
    reply = asked.reply.format(place=name, value=value) + " {source}; the other passage is older."
    return passages, stream.choice(asked.questions).format(place=name), reply, value, answers((value,), wrong), ""


def false(stream: random.Random, count: int) -> Case:
    """A passage contradicts what is known: the reply gives the known answer and says that the passage is wrong."""
    question, told, right, wrongs = stream.choice(FACTS)
    wrong = stream.choice(wrongs)
    passages = [told.format(wrong), *(others(stream, place(stream), "city", 1)[0] for _ in range(count - 1))]
    reply = f"{told.format(right[0]).removesuffix('.')}; passage {{source}} is wrong."
    return passages, question, reply, right[0], answers(right, wrong), f"fact {question}"


CASE = {"stated": stated, "missing": missing, "namesake": namesake, "outdated": outdated, "false": false}

SET = TaskSet("retrieval", "refusal", OPTIONS, problem, ("reply",))
