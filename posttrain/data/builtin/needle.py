"""A needle in a haystack: one sentence with a code in a long text, and a question for the code.

After Kamradt's test (2023, github.com/gkamradt/LLMTest_NeedleInAHaystack); several needles of which one is asked for are
RULER's multi-key task (arXiv:2404.06654, section 3). Options: words (of the whole text), depth (where the needle stands, in
percent of the text: 0 is the beginning), needles (how many codes there are). Slices by all three, so that an evaluation
shows where a model stops reading. The hay is generated sentences, in which nothing else is a code or a number. English text takes
about 1.3 tokens a word with a large vocabulary, and 6 with a byte vocabulary.

Fails to say whether a model understands a long text: finding a verbatim sentence is the least that a long context must do.
"""

from __future__ import annotations

import random

from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet
from posttrain.data.texts.generated import sentences

COLOURS = ("amber", "black", "blue", "brown", "copper", "crimson", "golden", "green", "grey", "ivory", "purple", "silver", "white")
THINGS = ("anchor", "cabinet", "castle", "chest", "compass", "crate", "door", "gate", "lantern", "safe", "shed", "tower", "vault")
CODES = (1000, 9999)

OPTIONS = {
    "words": Option(
        (25, 50, 100, 200, 400, 800, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 12000, 16000, 24000, 48000, 96000), (200,)
    ),
    "depth": Option((0, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 100), (0, 25, 50, 75, 100)),
    "needles": Option((1, 2, 4, 8), (1,)),
}


def problem(stream: random.Random, picked: Picked) -> Problem:
    words, depth, count = (stream.choice(picked[option]) for option in ("words", "depth", "needles"))
    names = [f"{colour} {thing}" for colour in stream.sample(COLOURS, count) for thing in [stream.choice(THINGS)]]
    codes = [str(code) for code in stream.sample(range(CODES[0], CODES[1] + 1), count)]
    needles = [f"The code of the {name} is {code}." for name, code in zip(names, codes, strict=True)]
    seed = stream.getrandbits(48)
    needle_words = sum(needle.count(" ") + 1 for needle in needles)
    text = sentences(random.Random(seed), max(1, words - needle_words))
    for needle in needles[1:]:
        text.insert(stream.randint(0, len(text)), needle)
    text.insert(round(depth / 100 * len(text)), needles[0])
    return Problem(
        key=f"{names[0]} {codes[0]} {seed}",
        question=f"{' '.join(text)}\n\nWhat is the code of the {names[0]}?",
        answer=codes[0],
        steps=f"The text says: {needles[0]}",
        slices={"words": str(words), "depth": str(depth), "needles": str(count)},
        metadata={"aliases": [needles[0]]},
    )


SET = TaskSet("needle", "lookup", OPTIONS, problem, ("answer_only", "think_answer"))
