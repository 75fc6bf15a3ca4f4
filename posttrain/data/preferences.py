"""Preferences: files of them, and sources mixed into one stream.

The layout is decided by the columns of the first row. Ours (`prompt`, `answers`, `pairs`) keeps K answers of one prompt
together; TRL's types are `chosen` and `rejected` with an explicit or implicit prompt, as turns or as text, and `prompt`,
`completion`, `label` without pairs, which only KTO learns from; OpenAI's are `input`, `preferred_output`,
`non_preferred_output`.

Text becomes turns, because the model at hand has a template: a prompt that is a string is one user turn, an answer one
assistant turn, and Anthropic's "\\n\\nHuman: … \\n\\nAssistant: …" is taken apart. An implicit prompt is what chosen and
rejected begin with together: whole turns, or whole words of a text.

Pairs that cannot teach (equal answers, empty answers) are passed over and counted by reason; a row without pairs is too.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from posttrain.core.config import PreferenceSource
from posttrain.core.errors import UserError
from posttrain.core.types import Message, Pair, Preference
from posttrain.data.files import Row, rows, shown_name
from posttrain.data.formats import read_slices
from posttrain.data.messages import read_messages, silent, text_of
from posttrain.data.mix import mix
from posttrain.data.sources import BUILTIN, resolve
from posttrain.data.tasks import turn_of

TELLING: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ranked", ("prompt", "answers", "pairs")),
    ("paired", ("chosen", "rejected")),
    ("openai", ("input", "preferred_output", "non_preferred_output")),
    ("unpaired", ("prompt", "completion", "label")),
)
"""The columns that decide, most telling first."""
LARGEST = 1e30
"""Of a margin: what fp32, in which losses are computed, can still add up."""
EQUAL, EMPTY = "chosen equals rejected", "empty answer"
SPEAKERS = {"Human": "user", "Assistant": "assistant"}

Turns = tuple[Message, ...]


class Preferences(Iterator[Preference]):
    """A stream of preferences. `skipped` counts, by reason, the pairs (or single labelled answers) passed over so far."""

    def __init__(self, stream: Iterator[Preference], skipped: Counter[str]) -> None:
        self._stream, self.skipped = stream, skipped

    def __next__(self) -> Preference:
        return next(self._stream)


def preferences(
    sources: Sequence[PreferenceSource], *, references: Mapping[str, str], base: Path, seed: int, unpaired: bool = False
) -> Preferences:
    """Preferences of all sources, mixed by weight (data/mix.py), streamed. Every one has a pair, or labels if `unpaired`.

    `references` maps a stage's id to the file it wrote; relative paths are taken from `base`. Sources that cannot be read are
    refused here, bad rows when they are reached.
    """
    skipped: Counter[str] = Counter()
    streams = [_stream(source, references, base, unpaired, skipped) for source in sources]
    return Preferences(mix(streams, [source.weight for source in sources], seed=seed), skipped)


def write_preferences(path: Path, found: Iterable[Preference], provenance: Iterable[Mapping[str, Any]] | None = None) -> int:
    """Write a preference file in one go (a temporary file, then a rename), where given with one provenance each. Returns how
    many were written."""
    temporary = path.with_name(f"{path.name}.writing")
    origins = iter(provenance) if provenance is not None else None
    count = 0
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for preference in found:
                line = plain(preference) | ({"provenance": dict(next(origins))} if origins is not None else {})
                file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def plain(preference: Preference) -> dict[str, Any]:
    """A preference as a row of our layout."""
    line: dict[str, Any] = {
        "prompt": [turn_of(message) for message in preference.prompt],
        "answers": [[turn_of(message) for message in answer] for answer in preference.answers],
        "pairs": [
            {"better": pair.better, "worse": pair.worse, "probability": pair.probability, "margin": pair.margin}
            for pair in preference.pairs
        ],
        "source": preference.source,
        "slices": dict(preference.slices),
    }
    return line | ({"labels": list(preference.labels)} if preference.labels else {})


def detect(row: Row) -> str:
    """The layout of a file, from the columns of its first row."""
    columns = set(row.values)
    for name, needed in TELLING:
        if columns >= set(needed):
            return name
    expected = "; ".join(", ".join(needed) for _, needed in TELLING)
    raise UserError(
        f"has columns {', '.join(sorted(columns)) or 'none'}; expected one of these sets: {expected}.",
        place=row.place,
        fix="Rename the columns.",
    )


def _stream(
    source: PreferenceSource, references: Mapping[str, str], base: Path, unpaired: bool, skipped: Counter[str]
) -> Iterator[Preference]:
    if source.source.startswith(BUILTIN):
        raise UserError(
            f"source {source.source!r}: no built-in set holds preferences.", fix="Make some with a stage of kind preferences."
        )
    path = resolve(source.source, references, base)
    return _read(path, shown_name(path, base), source.count, unpaired, skipped)


def _read(path: Path, shown: str, count: int | None, unpaired: bool, skipped: Counter[str]) -> Iterator[Preference]:
    raw = rows(path, shown)
    first = next(raw)
    layout = detect(first)
    if layout == "unpaired" and not unpaired:
        raise UserError(
            "holds single answers with a label, not pairs.", place=first.place, fix="Use loss: kto, or write chosen and rejected."
        )
    return _converted(chain([first], raw), layout, count, unpaired, skipped)


def _converted(raw: Iterator[Row], layout: str, count: int | None, unpaired: bool, skipped: Counter[str]) -> Iterator[Preference]:
    taken = 0
    for row in raw:
        preference = usable(convert(row, layout), skipped, unpaired=unpaired)
        if preference is None:
            continue
        yield preference
        taken += 1
        if taken == count:
            return


def convert(row: Row, layout: str) -> Preference:
    """One row as a preference, usable or not. UserError if the row does not say what it should."""
    if row.values.get("tools"):
        raise UserError("has tools, which preferences do not carry.", place=row.place, fix="Write them into the system turn.")
    try:
        return LAYOUTS[layout](row)
    except ValueError as error:  # a pair or a label that contradicts the answers
        raise UserError(f"{error}.", place=row.place, fix="Repair or remove the row.") from error


def usable(preference: Preference, skipped: Counter[str], *, unpaired: bool) -> Preference | None:
    """The preference without what cannot teach, or None if nothing is left. What is dropped is counted."""
    if preference.labels and not preference.pairs:
        if not unpaired:
            raise UserError("has labels, not pairs.", place=preference.origin, fix="Use loss: kto, or write pairs.")
        if any(empty(answer) for answer in preference.answers):
            skipped[EMPTY] += 1
            return None
        return preference
    kept = []
    for pair in preference.pairs:
        better, worse = preference.answers[pair.better], preference.answers[pair.worse]
        reason = EMPTY if empty(better) or empty(worse) else EQUAL if better == worse else ""
        if reason:
            skipped[reason] += 1
        else:
            kept.append(pair)
    if not preference.pairs:
        skipped["no pairs"] += 1
    if not kept:
        return None
    return Preference(preference.prompt, preference.answers, tuple(kept), preference.origin, preference.source, preference.slices)


def empty(answer: Turns) -> bool:
    """True if the assistant says and calls nothing."""
    return all(silent(message) for message in answer if message.role == "assistant")


def column(row: Row, name: str) -> Any:
    """A row's value that its layout needs."""
    if name not in row.values:
        found = ", ".join(sorted(row.values)) or "none"
        raise UserError(f"has no column {name!r} (columns: {found}).", place=row.place, fix="Add it or remove the row.")
    return row.values[name]


def _ranked(row: Row) -> Preference:
    answers = column(row, "answers")
    if not isinstance(answers, list) or not answers:
        raise UserError("answers is not a list of answers.", place=row.place, fix="Write [[{role, content}], ...].")
    labels = row.values.get("labels", [])
    if not isinstance(labels, list) or any(not isinstance(label, bool) for label in labels):
        raise UserError("labels is not a list of true and false.", place=row.place, fix="Write one for each answer.")
    return Preference(
        _prompt(column(row, "prompt"), row.place),
        tuple(_answer(answer, f"answers[{n}]", row.place) for n, answer in enumerate(answers)),
        _pairs(column(row, "pairs"), row.place),
        row.place,
        text_of(row.values.get("source", ""), "source", row.place),
        read_slices(row.values.get("slices", {}), row.place),
        tuple(labels),
    )


def _paired(row: Row) -> Preference:
    prompt, chosen, rejected = row.values.get("prompt"), column(row, "chosen"), column(row, "rejected")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise UserError(
            "chosen and rejected differ in kind; expected two strings or two lists of turns.",
            place=row.place,
            fix="Make both lists.",
        )
    if prompt is None and chosen == rejected:
        before, better, worse = _equal(chosen, row.place)
    elif prompt is None or (isinstance(prompt, str) and not isinstance(chosen, str) and _opens_with_question(chosen)):
        before, better, worse = _implicit(chosen, rejected, row.place)
    else:
        before = _prompt(prompt, row.place)
        better, worse = _answer(chosen, "chosen", row.place), _answer(rejected, "rejected", row.place)
    return _of_two(row, before, better, worse)


def _equal(answer: Any, place: str) -> tuple[Turns, Turns, Turns]:
    """A pair that teaches nothing and is counted as such."""
    turns = _answer(answer, "chosen", place)
    return (), turns, turns


def _openai(row: Row) -> Preference:
    given = column(row, "input")
    prompt = read_messages(given.get("messages") if isinstance(given, dict) else given, row.place, column="input.messages")
    better = _answer(column(row, "preferred_output"), "preferred_output", row.place)
    worse = _answer(column(row, "non_preferred_output"), "non_preferred_output", row.place)
    return _of_two(row, prompt, better, worse)


def _unpaired(row: Row) -> Preference:
    label = column(row, "label")
    if label not in (0, 1):
        raise UserError(f"label is {label!r}; expected true or false.", place=row.place, fix="Write true for a good answer.")
    answer = _answer(column(row, "completion"), "completion", row.place)
    slices = read_slices(row.values.get("slices", {}), row.place)
    source = text_of(row.values.get("source", ""), "source", row.place)
    return Preference(_prompt(column(row, "prompt"), row.place), (answer,), (), row.place, source, slices, (bool(label),))


LAYOUTS: dict[str, Callable[[Row], Preference]] = {
    "ranked": _ranked,
    "paired": _paired,
    "openai": _openai,
    "unpaired": _unpaired,
}


def _of_two(row: Row, prompt: Turns, better: Turns, worse: Turns) -> Preference:
    """A pair of answers; `probability` and `margin` are columns where they are known."""
    pair = _pair({"better": 0, "worse": 1, **{n: row.values[n] for n in ("probability", "margin") if n in row.values}}, row.place)
    source = text_of(row.values.get("source", ""), "source", row.place)
    return Preference(prompt, (better, worse), (pair,), row.place, source, read_slices(row.values.get("slices", {}), row.place))


def _prompt(value: Any, place: str) -> Turns:
    if not isinstance(value, str):
        return read_messages(value, place, column="prompt")
    if not value.strip():
        raise UserError("prompt is empty.", place=place, fix="Remove the row.")
    return dialogue(text_of(value, "prompt", place)) or (Message("user", value),)


def _answer(value: Any, what: str, place: str) -> Turns:
    """An answer's turns; no turns where it is empty, which is counted later."""
    if isinstance(value, str):
        return (Message("assistant", text_of(value, what, place)),)
    return () if value == [] else read_messages(value, place, column=what)


def _pairs(value: Any, place: str) -> tuple[Pair, ...]:
    if not isinstance(value, list):
        raise UserError("pairs is not a list.", place=place, fix='Write [{"better": 0, "worse": 1}].')
    return tuple(_pair(pair, place) for pair in value)


def _pair(value: Any, place: str) -> Pair:
    if not isinstance(value, dict) or any(type(value.get(side)) is not int for side in ("better", "worse")):
        raise UserError("a pair names no two answers by number.", place=place, fix='Write {"better": 0, "worse": 1}.')
    probability, margin = value.get("probability"), value.get("margin")
    for name, number in (("probability", probability), ("margin", margin)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise UserError(f"{name} is {number!r}; expected a number.", place=place, fix="Write a number or leave it out.")
        if number is not None and abs(number) > LARGEST:
            raise UserError(f"{name} is beyond {LARGEST:g}; expected a score's size.", place=place, fix="Repair or remove the row.")
    return Pair(value["better"], value["worse"], 1.0 if probability is None else float(probability), margin)


def _opens_with_question(turns: Any) -> bool:
    """True if an answer's turns hold the prompt too (as UltraFeedback's do, beside a prompt column)."""
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and turns[0].get("role") in ("user", "system")


def _implicit(chosen: Any, rejected: Any, place: str) -> tuple[Turns, Turns, Turns]:
    """Prompt and answers of two texts or conversations that begin alike."""
    if isinstance(chosen, str):
        one, other = dialogue(text_of(chosen, "chosen", place)), dialogue(text_of(rejected, "rejected", place))
        if not (one and other):
            return _split_text(chosen, rejected, place)
    else:
        one, other = read_messages(chosen, place, column="chosen"), read_messages(rejected, place, column="rejected")
    shared = common(one, other)
    if shared and shared == min(len(one), len(other)):  # one ends where the other goes on
        shared -= 1
    if not shared:
        raise UserError("chosen and rejected have no turn in common, so there is no prompt.", place=place, fix="Add `prompt`.")
    return one[:shared], one[shared:], other[shared:]


def _split_text(chosen: str, rejected: str, place: str) -> tuple[Turns, Turns, Turns]:
    """The common beginning of two texts, up to its last white space, as the prompt."""
    shared = chosen[: common(chosen, rejected)]
    prompt = re.sub(r"\S*$", "", shared)
    if not prompt.strip():
        raise UserError("chosen and rejected have no words in common, so there is no prompt.", place=place, fix="Add `prompt`.")
    rest = [(Message("assistant", text[len(prompt) :]),) for text in (chosen, rejected)]
    return (Message("user", prompt.rstrip()),), rest[0], rest[1]


def common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items two sequences begin with together."""
    shortest = min(len(one), len(other))
    return next((n for n in range(shortest) if one[n] != other[n]), shortest)


def dialogue(text: str) -> Turns:
    """Anthropic's layout ("\\n\\nHuman: … \\n\\nAssistant: …") as turns; no turns if the text is not in it."""
    if not text.startswith("\n\nHuman:"):
        return ()
    parts = re.split(r"\n\n(Human|Assistant):", text)
    turns = [Message(SPEAKERS[who], said.strip()) for who, said in zip(parts[1::2], parts[2::2], strict=True)]  # type: ignore[arg-type]
    return tuple(turns[:-1] if turns[-1] == Message("assistant", "") else turns)
