"""Chat-history pairs: short conversations whose last question can only be answered from the turns before it.

Options: kinds, turns (of the user before the question). The kinds: `recall` (asked for one of several things the user told),
`update` (one of them was corrected later: the last word holds), `refer` (asked for the first, second, ... of a list told),
`count` (things were added to and taken from a list: how many are on it), `rule` (the user set a rule for all later answers).
Every assistant turn of a demonstration is learnt, each from the turns before it. The facts told decide the split.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from posttrain.core.types import Role
from posttrain.data.builtin.lookup import CITIES
from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet
from posttrain.data.builtin.strings import WORDS as THINGS

NAMES = "Ana Ben Clara David Emma Felix Grace Hugo Iris Jonas Kira Leo Mia Noah Olga Paul Rosa Sam Tara Uri Vera Will Yara Zoe"
SURNAMES = "Adler Brook Costa Diaz Evans Frost Gold Hart Ito Jones Klein Lund Moss Novak Ortiz Park Quist Reed Stone Weber"
ORDINALS = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class Fact:
    """What a user tells of themselves: ways to tell it, to correct it, to ask for it, and what it may be."""

    told: tuple[str, ...]
    corrected: tuple[str, ...]
    asked: tuple[str, ...]
    values: tuple[str, ...]


FACTS = {
    "city": Fact(
        ("I live in {}.", "My home is in {}.", "I am writing to you from {}."),
        ("Sorry, I meant {}, not the other city.", "By the way, I have just moved to {}.", "Correction: I live in {} now."),
        ("Which city do I live in?", "Where do I live?", "What city am I in?"),
        CITIES,
    ),
    "name": Fact(
        ("My name is {}.", "I am {}.", "Hello, {} here."),
        ("I mistyped: my name is {}.", "Sorry, please call me {} instead."),
        ("What is my name?", "What am I called?", "Do you remember my name?"),
        tuple(f"{name} {surname}" for name in NAMES.split() for surname in SURNAMES.split()),
    ),
    "color": Fact(
        ("My favorite color is {}.", "The color I like best is {}.", "I paint everything {}."),
        ("I changed my mind, I like {} best.", "No, make my favorite color {}."),
        ("What is my favorite color?", "Which color do I like best?"),
        ("red", "blue", "green", "yellow", "purple", "orange", "black", "white", "brown", "pink", "silver", "turquoise"),
    ),
    "pet": Fact(
        ("I have a pet {}.", "My pet is a {}.", "A {} lives with me."),
        ("I was joking, my pet is a {}.", "We gave it away and took in a {}."),
        ("What kind of pet do I have?", "Which animal is my pet?"),
        ("cat", "dog", "parrot", "rabbit", "turtle", "hamster", "snake", "pony", "goat", "lizard", "canary", "mouse"),
    ),
    "job": Fact(
        ("I work as a {}.", "By trade I am a {}.", "I earn my living as a {}."),
        ("I have a new job: I am a {} now.", "I was wrong to say that, I am a {}."),
        ("What is my job?", "What do I work as?"),
        ("baker", "teacher", "nurse", "pilot", "farmer", "painter", "driver", "lawyer", "plumber", "dentist",
         "tailor", "waiter", "singer"),
    ),
    "day": Fact(
        ("My next visit is on {}.", "I will come by on {}.", "We meet on {}."),
        ("I have to move it to {}.", "That day does not suit me, let us say {}."),
        ("On which day do we meet?", "Which day did we agree on?"),
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    ),
    "number": Fact(
        ("My room number is {}.", "I am in room {}.", "You find me in room {}."),
        ("They moved me to room {}.", "I misread it, it is room {}."),
        ("What is my room number?", "Which room am I in?"),
        tuple(str(number) for number in range(100, 999)),
    ),
}  # fmt: skip
HEARD = ("Thank you, I will remember that.", "Noted.", "Good to know.", "All right.", "Thanks for telling me.", "I see.", "Got it.")
KINDS = ("recall", "update", "refer", "count", "rule")
OPTIONS = {"kinds": Option(KINDS, KINDS), "turns": Option((2, 3, 4), (2, 3))}


@dataclass
class Talk:
    """A conversation as it grows: what the user says, and a short word of the assistant after it."""

    stream: random.Random
    turns: list[tuple[Role, str]] = field(default_factory=list)

    def say(self, text: str, reply: str = "") -> None:
        self.turns += [("user", text), ("assistant", reply or self.stream.choice(HEARD))]


Made = tuple[str, str, str, dict[str, object]]
"""The last question, its answer, how it follows, and metadata for the grader."""


def problem(stream: random.Random, picked: Picked) -> Problem:
    kind, turns = stream.choice(picked["kinds"]), stream.choice(picked["turns"])
    talk = Talk(stream)
    question, answer, steps, metadata = KIND[kind](talk, turns)
    told = " ".join(text for role, text in talk.turns if role == "user")
    slices = {"kind": kind, "turns": str(len(talk.turns) // 2)}
    return Problem(f"{told} {question}", question, answer, steps, slices, metadata, history=tuple(talk.turns))


def tell(talk: Talk, count: int) -> dict[str, str]:
    """That many facts, one a turn; two of them may come in one turn."""
    told: dict[str, str] = {}
    for name in talk.stream.sample(sorted(FACTS), count):
        told[name] = talk.stream.choice(FACTS[name].values)
        talk.say(talk.stream.choice(FACTS[name].told).format(told[name]))
    return told


def recall(talk: Talk, turns: int) -> Made:
    told = tell(talk, turns)
    name = talk.stream.choice(sorted(told))
    return talk.stream.choice(FACTS[name].asked), told[name], f"The user said: {told[name]}.", aliases(told[name])


def update(talk: Talk, turns: int) -> Made:
    told = tell(talk, turns - 1)
    name = talk.stream.choice(sorted(told))
    new = talk.stream.choice([value for value in FACTS[name].values if value != told[name]])
    talk.say(talk.stream.choice(FACTS[name].corrected).format(new))
    return talk.stream.choice(FACTS[name].asked), new, f"First {told[name]}, then corrected to {new}.", aliases(new)


def refer(talk: Talk, turns: int) -> Made:
    things = talk.stream.sample(THINGS, talk.stream.choice((3, 4)))
    listed = ", ".join(things)
    opening = talk.stream.choice(
        ("Here is my list: {}.", "Please note these words: {}.", "I will need: {}.", "Learn this order: {}.")
    )
    talk.say(opening.format(listed), talk.stream.choice(("", f"I have noted {len(things)} words.")))
    tell(talk, turns - 1)
    place = talk.stream.randrange(len(things))
    which = ORDINALS[place] if place < len(things) - 1 or talk.stream.random() < 0.5 else "last"
    asked = talk.stream.choice(("What was the {} thing on my list?", "Which word was {} on my list?"))
    return asked.format(which), things[place], f"The list was {listed}.", aliases(things[place])


def count(talk: Talk, turns: int) -> Made:
    things = talk.stream.sample(THINGS, 8)
    held = things[: talk.stream.choice((2, 3))]
    spare = things[len(held) :]
    talk.say(talk.stream.choice(("Start a list with {}.", "Put {} on a new list.")).format(" and ".join(held)))
    for _ in range(turns - 1):
        if talk.stream.random() < 0.6 or len(held) < 2:
            held.append(spare.pop())
            talk.say(talk.stream.choice(("Add {}.", "Put {} on it too.")).format(held[-1]))
        else:
            talk.say(talk.stream.choice(("Take off {}.", "Remove {} again.")).format(held.pop(talk.stream.randrange(len(held)))))
    asked = talk.stream.choice(("How many things are on the list now?", "How many words does the list have now?"))
    return asked, str(len(held)), f"On the list: {', '.join(held)}.", {"aliases": [f"{len(held)} things", f"{len(held)} words"]}


def rule(talk: Talk, turns: int) -> Made:
    told = tell(talk, turns - 1)
    name = talk.stream.choice(sorted(told))
    value = told[name]
    said, shown = talk.stream.choice(
        (
            ("From now on, write all answers in capital letters.", value.upper()),
            ("From now on, end every answer with an exclamation mark.", f"{value}!"),
            ("From now on, put every answer in round brackets.", f"({value})"),
            ("From now on, begin every answer with the word Sir and a comma.", f"Sir, {value}"),
        )
    )
    talk.say(said)
    return talk.stream.choice(FACTS[name].asked), shown, f"The rule: {said} The user said {value}.", {"case_sensitive": True}


def aliases(value: str) -> dict[str, object]:
    return {"aliases": [f"a {value}", f"the {value}"]}


KIND = {"recall": recall, "update": update, "refer": refer, "count": count, "rule": rule}

SET = TaskSet("dialogue", "lookup", OPTIONS, problem, ("answer_only", "think_answer"))
