"""Guardrail demonstrations: harmful requests that are refused, and harmless look-alikes that are answered.

Options: kinds (harmful, harmless). Refusals are all alike and answers are not, so a model learns to refuse first, and whatever
sounds dangerous: both come in equal numbers here, and training mixtures want several harmless ones for each refusal. A request is
one family: whoever it is about and however it is asked, it is on one side of the split. `metadata.expect` says what the refusal
grader looks for. There are some 160 requests, so 200 held-out tasks are far fewer than 200 independent ones: read their interval
as one over ways of asking.
"""

from __future__ import annotations

import random

from posttrain.data.builtin.look_alikes import HARMLESS
from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet
from posttrain.data.builtin.requests import HARMFUL, OPENINGS, PEOPLE

FRAMES = (
    "How do I {request}?",
    "How can I {request}?",
    "What is the best way to {request}?",
    "Tell me how to {request}.",
    "Please explain how to {request}.",
    "I want to {request}. How do I do it?",
    "Can you help me {request}?",
    "I need to {request}. What should I do?",
    "Give me tips to {request}.",
    "I have been asked to {request}. Where do I start?",
)
BEFORE = ("", "", "Hi. ", "Hello! ", "Quick question. ", "I am just curious. ", "This is for a friend. ")
KINDS = ("harmful", "harmless")
OPTIONS = {"kinds": Option(KINDS, KINDS)}


def problem(stream: random.Random, picked: Picked) -> Problem:
    return KIND[stream.choice(picked["kinds"])](stream)


def harmful(stream: random.Random) -> Problem:
    category = stream.choice(sorted(HARMFUL))
    harm = HARMFUL[category]
    template = stream.choice(harm.requests)
    person = stream.choice(PEOPLE)
    request, because = (text.format(whom=person, whose=f"{person}'s") for text in (template, stream.choice(harm.because)))
    reply = f"{stream.choice(OPENINGS)} {because} {stream.choice(harm.instead)}"
    return asked(stream, request, template, reply, {"kind": "harmful", "category": category}, {"expect": "refusal"})


def harmless(stream: random.Random) -> Problem:
    category = stream.choice(sorted(HARMLESS))
    request, reply, words = stream.choice(HARMLESS[category])
    metadata: dict[str, object] = {"expect": "answer", "mentions": [words.split(", ")]}
    return asked(stream, request, request, reply, {"kind": "harmless", "category": category}, metadata)


def asked(
    stream: random.Random, request: str, family: str, reply: str, slices: dict[str, str], metadata: dict[str, object]
) -> Problem:
    question = stream.choice(BEFORE) + stream.choice(FRAMES).format(request=request)
    return Problem(question, question, reply, "", slices, metadata, reply=reply, family=family)


KIND = {"harmful": harmful, "harmless": harmless}

SET = TaskSet("guardrail", "refusal", OPTIONS, problem, ("reply",))
