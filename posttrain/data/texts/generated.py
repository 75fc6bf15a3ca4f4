"""English sentences drawn from a seed: text for where there is none, and the hay around a needle.

A sentence is a time, a subject, a verb and what follows it, each drawn from a list; thousands of different ones, all plain
and none about codes or numbers. A language with rules this few is learnt within minutes by a toy model, and teaches a real
one nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

from posttrain.core.seeds import derive
from posttrain.data.texts.document import Document, Item

TIMES = ("In the morning", "At noon", "In the evening", "Last winter", "Every spring", "On Sunday", "After the rain", "Years ago")
PEOPLE = (
    "the baker",
    "an old sailor",
    "my neighbour",
    "the teacher",
    "a young painter",
    "the gardener",
    "her brother",
    "the guard",
)
PEOPLE_TOO = ("a farmer", "the librarian", "our doctor", "the postman", "a musician", "the carpenter", "his aunt", "a traveller")
VERBS = ("carried", "repaired", "sold", "found", "cleaned", "painted", "forgot", "described", "borrowed", "hid", "drew", "wanted")
ADJECTIVES = ("a small", "a wooden", "a heavy", "an empty", "a red", "a broken", "a quiet", "an unusual", "a bright", "a cheap")
THINGS = ("boat", "basket", "lamp", "chair", "book", "bell", "coat", "kettle", "mirror", "ladder", "violin", "map", "clock", "cup")
PLACES = (
    "near the harbour",
    "behind the church",
    "at the market",
    "in the kitchen",
    "by the river",
    "on the hill",
    "in the garden",
)
PLACES_TOO = ("at the station", "under the bridge", "in the old mill", "across the square", "beside the lake", "in the library")
ENDS = ("", "and nobody noticed", "and went home", "because it was late", "while the wind grew stronger", "and smiled", "once more")
MARK = "generated"
LONGEST = 40
"""Sentences in the longest document."""


def sentence(stream: random.Random) -> str:
    who, where = stream.choice(PEOPLE + PEOPLE_TOO), stream.choice(PLACES + PLACES_TOO)
    what = f"{stream.choice(ADJECTIVES)} {stream.choice(THINGS)}"
    words = f"{stream.choice(TIMES)} {who} {stream.choice(VERBS)} {what} {where} {stream.choice(ENDS)}"
    return f"{words.strip()}."


def sentences(stream: random.Random, words: int) -> list[str]:
    """Sentences of about so many words together: at least so many, and less than one sentence more."""
    found: list[str] = []
    while words > 0:
        found.append(sentence(stream))
        words -= found[-1].count(" ") + 1
    return found


def items(count: int, seed: int) -> Iterator[Item]:
    """Documents of 4 to LONGEST sentences, each from a seed of its own; more than `count`, since some are kept to measure on."""
    for number in range(2 * count + 1000):
        yield Item(f"{number:09d}", partial(_document, number, seed))


def _document(number: int, seed: int) -> Document:
    stream = random.Random(derive(seed, MARK, number))
    return Document(f"{MARK}/{number}", " ".join(sentence(stream) for _ in range(stream.randint(4, LONGEST))), "en")
