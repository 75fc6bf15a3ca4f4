"""What an answer may be asked to look like: one constraint that a program can check, as settings or in a task's metadata.

The kinds are in the spirit of IFEval (arXiv:2311.07911, table 1), in our own words and names. Each takes only the fields that it
reads; any other is refused, because a bound that nobody checks would look like a promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from posttrain.core.config.checks import STRICT

BOUNDS = ("at_least", "at_most")
FIELDS: dict[str, tuple[str, ...]] = {
    "words": BOUNDS,
    "sentences": BOUNDS,
    "paragraphs": BOUNDS,
    "bullets": BOUNDS,
    "items": BOUNDS,
    "sections": ("text", *BOUNDS),
    "parts": ("text", *BOUNDS),
    "placeholders": BOUNDS,
    "highlights": BOUNDS,
    "capital_words": BOUNDS,
    "keyword": ("text", *BOUNDS),
    "letter": ("text", *BOUNDS),
    "include": ("texts",),
    "exclude": ("texts",),
    "one_of": ("texts",),
    "starts_with": ("text",),
    "ends_with": ("text",),
    "paragraph_starts_with": ("text", "number"),
    "postscript": ("text",),
    "title": (),
    "quoted": (),
    "uppercase": (),
    "lowercase": (),
    "no_comma": (),
    "language": ("language",),
    "json": ("schema",),
}
NEEDED = {"text", "texts", "language", "number"}


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """One thing that an answer must do, such as {kind: words, at_least: 50, at_most: 100}."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal[
        "words", "sentences", "paragraphs", "bullets", "items", "sections", "parts", "placeholders", "highlights", "capital_words",
        "keyword", "letter", "include", "exclude", "one_of", "starts_with", "ends_with", "paragraph_starts_with", "postscript",
        "title", "quoted", "uppercase", "lowercase", "no_comma", "language", "json",
    ]  # fmt: skip
    at_least: int | None = None
    """The smallest number of what is counted."""
    at_most: int | None = None
    """The largest number of what is counted."""
    text: str = ""
    """The word that is counted, the words it begins or ends with, the mark between parts, or the name of sections."""
    texts: Sequence[str] = ()
    """Words or phrases that must all occur (`include`), must not (`exclude`), or of which one is the whole answer (`one_of`)."""
    number: int = 0
    """Which paragraph `paragraph_starts_with` is about, from 1."""
    language: str = ""
    """ISO 639-1 code of the language it is written in."""
    schema: Mapping[str, Any] | None = None
    """JSON schema that the answer, one JSON value, must satisfy; any JSON value if not given."""

    def __post_init__(self) -> None:
        if self.kind not in FIELDS:
            raise ValueError(f"kind is {self.kind!r}; expected one of {', '.join(sorted(FIELDS))}")
        reads = FIELDS[self.kind]
        for name, field in self.__dataclass_fields__.items():
            given = name != "kind" and getattr(self, name) != field.default
            if given and name not in reads:
                raise ValueError(f"{name} is set, but kind {self.kind} reads only {', '.join(reads) or 'its kind'}")
            if name in NEEDED and name in reads and not given:
                raise ValueError(f"{name} is missing; kind {self.kind} needs it")
        if any(not text.strip() for text in self.texts):
            raise ValueError("texts has an empty entry; expected words in each")
        if self.kind == "letter" and len(self.text) != 1:
            raise ValueError(f"text is {self.text!r}; expected one letter")
        if self.number < 0:
            raise ValueError(f"number is {self.number}; expected 1 or more")
        self.check_bounds(reads)

    def check_bounds(self, reads: Sequence[str]) -> None:
        low, high = self.at_least, self.at_most
        if "at_least" in reads and low is None and high is None:
            raise ValueError(f"at_least and at_most are both missing; kind {self.kind} needs one of them")
        if (low is not None and low < 0) or (high is not None and high < (low or 0)):
            raise ValueError(f"at_least is {low} and at_most {high}; expected 0 <= at_least <= at_most")
