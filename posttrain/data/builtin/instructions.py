"""Instructions whose following a program can check: a topic to write about, and what the answer must look like.

Options: constraints (how many at once, 1 to 3), kinds (which of them). In the spirit of IFEval (arXiv:2311.07911), in our own
words. `metadata.constraints` is what the instruction grader checks; each question comes with a reply that keeps all of it, made
first, so that what is asked can be done. Topics are wholly on one side of the split. A question has at most one constraint of a
family (shape, edge, case, content), since two of a family often contradict each other. What the reply says is true and simple,
and is not graded. There are 24 topics, so held-out tasks measure how constraints are kept, not what is known.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from posttrain.data.builtin.instruction_topics import TOPICS
from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet

FAMILIES: dict[str, tuple[str, ...]] = {
    "shape": ("sentences", "paragraphs", "bullets", "items", "sections", "parts", "json"),
    "edge": ("starts_with", "ends_with", "title", "postscript", "quoted"),
    "case": ("uppercase", "lowercase", "capital_words"),
    "content": ("include", "exclude", "words", "no_comma", "highlights"),
}
KINDS = tuple(kind for kinds in FAMILIES.values() for kind in kinds)
OPTIONS = {"constraints": Option((1, 2, 3), (1, 2, 3)), "kinds": Option(KINDS, KINDS)}

ASKED = ("Tell me about {topic}.", "Write about {topic}.", "Describe {topic}.", "Explain {topic}.", "What about {topic}?")
OPENINGS = ("In short", "As far as I know", "Here is what I know", "Good question", "Let me explain")
ENDINGS = ("That is all.", "I hope this helps.", "Ask me for more.", "Now you know.")
MARK = "######"
APART = {  # kinds that cannot stand together: the one changes what the other counts
    "json": {*FAMILIES["edge"], *FAMILIES["case"], "no_comma", "highlights"},
    "postscript": {"sentences", "paragraphs", "parts", "sections", "lowercase"},
    "quoted": {"bullets", "items", "sections"},
    "parts": {"title", "highlights"},
}
Constraint = dict[str, Any]


def problem(stream: random.Random, picked: Picked) -> Problem:
    topic = stream.choice(sorted(TOPICS))
    kinds = chosen_kinds(stream, stream.choice(picked["constraints"]), set(picked["kinds"]))
    facts = stream.sample(TOPICS[topic], stream.choice((2, 3, 4)))
    text, constraints = facts_in_shape(stream, next((kind for kind in kinds if kind in FAMILIES["shape"]), ""), topic, facts)
    for kind in (each for family in ("edge", "case", "content") for each in FAMILIES[family] if each in kinds):
        text, constraint = CHANGE[kind](stream, text, topic)
        constraints.append(constraint)
    if "ends_with" in kinds and "sentences" in kinds:
        constraints[0] = bounded(stream, "sentences", len(facts) + 1)
    said = question(stream, topic, [worded(stream, constraint) for constraint in constraints])
    slices = {"constraints": str(len(kinds))}
    slices |= {family: next((kind for kind in kinds if kind in FAMILIES[family]), "none") for family in FAMILIES}
    return Problem(said, said, text, "", slices, {"constraints": constraints}, reply=text, family=topic)


def question(stream: random.Random, topic: str, wanted: Sequence[str]) -> str:
    """The longest constraint, the question, the others: no run of 13 words is without the topic, so decontamination can tell rows
    for training from copies of the test."""
    longest, *others = sorted(stream.sample(wanted, len(wanted)), key=lambda text: -len(text.split()))
    asked = stream.choice(ASKED).format(topic=topic)
    if not others and stream.random() < 0.5:
        return f"{asked} {longest}"
    return " ".join([longest, asked, *others])


def chosen_kinds(stream: random.Random, count: int, allowed: set[str]) -> list[str]:
    """Up to `count` kinds of different families that can stand together; as many as the allowed ones have, at least one."""
    kinds: list[str] = []
    families = [family for family in FAMILIES if set(FAMILIES[family]) & allowed]
    for family in stream.sample(families, min(count, len(families))):
        fitting = [kind for kind in FAMILIES[family] if kind in allowed and not any(clash(kind, other) for other in kinds)]
        if fitting:
            kinds.append(stream.choice(fitting))
    return kinds


def clash(kind: str, other: str) -> bool:
    return other in APART.get(kind, ()) or kind in APART.get(other, ())


def facts_in_shape(stream: random.Random, shape: str, topic: str, facts: Sequence[str]) -> tuple[str, list[Constraint]]:
    if not shape:
        return " ".join(facts), []
    text, constraint = SHAPE[shape](stream, topic, facts)
    return text, [constraint]


def bounded(stream: random.Random, kind: str, count: int, **more: str) -> Constraint:
    """Exactly so many, or a bound that so many keep."""
    how = stream.choice(("exactly", "exactly", "at_least", "at_most"))
    if how == "exactly":
        return {"kind": kind, "at_least": count, "at_most": count, **more}
    return {"kind": kind, how: count + (stream.randrange(2) if how == "at_most" else 0), **more}


def as_json(stream: random.Random, topic: str, facts: Sequence[str]) -> tuple[str, Constraint]:
    count = len(facts)
    schema = {
        "type": "object",
        "properties": {"topic": {"type": "string"}, "facts": {"type": "array", "items": {"type": "string"}, "minItems": count}},
        "required": ["topic", "facts"],
    }
    return json.dumps({"topic": topic, "facts": list(facts)}), {"kind": "json", "schema": schema}


def as_parts(stream: random.Random, topic: str, facts: Sequence[str]) -> tuple[str, Constraint]:
    half = len(facts) // 2
    text = f"{' '.join(facts[:half])}\n{MARK}\n{' '.join(facts[half:])}"
    return text, {"kind": "parts", "text": MARK, "at_least": 2, "at_most": 2}


def joined(kind: str, line: Callable[[int, str], str], between: str, **more: str) -> Callable[..., tuple[str, Constraint]]:
    def shaped(stream: random.Random, topic: str, facts: Sequence[str]) -> tuple[str, Constraint]:
        text = between.join(line(number, fact) for number, fact in enumerate(facts, 1))
        return text, bounded(stream, kind, len(facts), **more)

    return shaped


SHAPE: dict[str, Callable[..., tuple[str, Constraint]]] = {
    "sentences": joined("sentences", lambda number, fact: fact, " "),
    "paragraphs": joined("paragraphs", lambda number, fact: fact, "\n\n"),
    "bullets": joined("bullets", lambda number, fact: f"- {fact}", "\n"),
    "items": joined("items", lambda number, fact: f"{number}. {fact}", "\n"),
    "sections": joined("sections", lambda number, fact: f"Section {number}\n{fact}", "\n\n", text="Section"),
    "parts": as_parts,
    "json": as_json,
}


def starts_with(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    opening = stream.choice(OPENINGS)
    own_line = text.startswith(("- ", "1. ", "Section "))
    return f"{opening}:{chr(10) if own_line else ' '}{text}", {"kind": "starts_with", "text": opening}


def ends_with(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    ending = stream.choice(ENDINGS)
    own_line = re.match(r"^(- |1\. )|.*\n(- |\d\. )", text, flags=re.S)
    return f"{text}{chr(10) if own_line else ' '}{ending}", {"kind": "ends_with", "text": ending}


def title(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    return f"<<About {topic}>>\n{text}", {"kind": "title"}


def postscript(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    unsaid = next(fact for fact in TOPICS[topic] if fact not in text)
    return f"{text}\n\nP.S. {unsaid}", {"kind": "postscript", "text": "P.S."}


def quoted(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    return f'"{text}"', {"kind": "quoted"}


def uppercase(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    return text.upper(), {"kind": "uppercase"}


def lowercase(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    return text.lower(), {"kind": "lowercase"}


def capital_words(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    known = sorted(long_words(text))
    count = min(stream.choice((1, 2, 3)), len(known))
    for word in stream.sample(known, count):
        text = re.sub(rf"\b{word}\b", word.upper(), text, count=1)
    return text, {"kind": "capital_words", "at_least": count}


def highlights(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    known = sorted(long_words(text))
    count = min(stream.choice((1, 2, 3)), len(known))
    for word in stream.sample(known, count):
        text = re.sub(rf"\b{word}\b", f"*{word}*", text, count=1)
    return text, {"kind": "highlights", "at_least": count}


def include(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    known = sorted({word.lower() for word in long_words(text)})
    return text, {"kind": "include", "texts": stream.sample(known, min(stream.choice((1, 2)), len(known)))}


def exclude(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    """Words that come to mind with the topic and that the reply does without."""
    used = {word.lower() for word in re.findall(r"[A-Za-z]+", text)}
    tempting = sorted({word.lower() for fact in TOPICS[topic] for word in long_words(fact)} - used)
    return text, {"kind": "exclude", "texts": stream.sample(tempting, stream.choice((1, 2)))}


def words(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    count = len(re.findall(r"\w+", text))
    low, high = max(5, (count - stream.randrange(1, 10)) // 5 * 5), (count + stream.randrange(5, 20)) // 5 * 5
    return text, {"kind": "words", **stream.choice(({"at_least": low}, {"at_most": high}, {"at_least": low, "at_most": high}))}


def no_comma(stream: random.Random, text: str, topic: str) -> tuple[str, Constraint]:
    return text, {"kind": "no_comma"}


def long_words(text: str) -> set[str]:
    """Words with a meaning of their own: five letters or more, as they are written; not what only frames the text."""
    found = set(re.findall(r"\b[A-Za-z]{5,}\b", text))
    framing = {word for frame in (*OPENINGS, *ENDINGS, "About", "topic", "facts") for word in re.findall(r"[A-Za-z]+", frame)}
    names = {"Section", "SECTION", "section"} | {form(word) for word in framing for form in (str, str.upper, str.lower)}
    return found - names


CHANGE: dict[str, Callable[[random.Random, str, str], tuple[str, Constraint]]] = {
    "starts_with": starts_with, "ends_with": ends_with, "title": title, "postscript": postscript, "quoted": quoted,
    "uppercase": uppercase, "lowercase": lowercase, "capital_words": capital_words,
    "include": include, "exclude": exclude, "words": words, "no_comma": no_comma, "highlights": highlights,
}  # fmt: skip

NAMES = {"sentences": "sentence", "paragraphs": "paragraph", "bullets": "bullet point", "items": "numbered item"}
NAMES |= {"capital_words": "word", "highlights": "part", "sections": "section"}
WORDED: dict[str, tuple[str, ...]] = {
    "sentences": ("Write {count}.", "Use {count}."),
    "paragraphs": ("Write {count}.", "Leave a blank line between {count}."),
    "bullets": ("List {count} after dashes.", "Use {count} with dashes."),
    "items": ("Write {count}.", "Make a list of {count}."),
    "sections": ("Write {count} headed Section 1 etc.",),
    "parts": (f"Answer twice and put {MARK} between.", f"Give two answers with {MARK} between."),
    "json": ("Answer only in JSON: topic (text), facts ({items} texts).", "Give JSON: topic (text) and facts (list of {items})."),
    "starts_with": ('Begin with "{text}".', 'Start with "{text}".'),
    "ends_with": ('End with "{text}"', 'Finish with "{text}"'),
    "title": ("Begin with a <<title>>.", "Put a <<title>> on top."),
    "postscript": ("Add a postscript after {text}", "End with a {text} note."),
    "quoted": ("Put everything in double quotation marks.", "Wrap the answer in double quotes."),
    "uppercase": ("Use capital letters only.", "Write in capital letters throughout."),
    "lowercase": ("Use small letters only.", "Write without any capital letter."),
    "capital_words": ("Write {count} in capitals.", "Put {count} in capitals."),
    "include": ("Use the {listed}.", "Include the {listed}."),
    "exclude": ("Avoid the {listed}.", "Leave out the {listed}."),
    "words": ("Write {count}.", "Use {count}."),
    "no_comma": ("Do not use any commas.", "Write without a comma."),
    "highlights": ("Mark {count} with asterisks.", "Set {count} between asterisks."),
}  # fmt: skip


def worded(stream: random.Random, constraint: Constraint) -> str:
    """The constraint as a person would say it."""
    kind, texts = str(constraint["kind"]), [f'"{text}"' for text in constraint.get("texts", ())]
    listed = f"word {texts[0]}" if len(texts) == 1 else f"words {' and '.join(texts)}"
    if kind == "exclude" and len(texts) > 1:
        listed = f"words {' or '.join(texts)}"
    items = constraint.get("schema", {}).get("properties", {}).get("facts", {}).get("minItems", 0)
    template = stream.choice(WORDED[kind])
    return template.format(count=counted(constraint), listed=listed, text=constraint.get("text", ""), items=items)


def counted(constraint: Constraint) -> str:
    """`exactly 3 sentences`, `at least 40 words`, `between 20 and 45 words`."""
    low, high = constraint.get("at_least"), constraint.get("at_most")
    name = NAMES.get(str(constraint["kind"]), "word")
    most = high if high is not None else low
    name += "" if most == 1 else "s"
    if low is not None and high is not None:
        return f"exactly {low} {name}" if low == high else f"between {low} and {high} {name}"
    return f"at least {low} {name}" if high is None else f"at most {high} {name}"


SET = TaskSet("instructions", "instruction", OPTIONS, problem, ("reply",))
