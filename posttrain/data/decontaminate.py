"""Training rows that hold evaluation tasks: shared word 13-grams (GPT-3, arXiv:2005.14165, appendix C), and whole prompts.

A prompt too short for an n-gram, such as "What is 17 + 25?", overlaps with a row whose user turn is the same prompt; longer
prompts are looked for anywhere in the row. Words are compared in lower case and without punctuation, but with signs of
arithmetic: 17 + 25 is not 17 - 25. System prompts do not count, they are shared on purpose. An n-gram that stands in more
than `common` different evaluation prompts is their boilerplate and does not count either; GPT-3 ignored n-grams with more
than ten matches for the same reason.

Fails for paraphrases, translations, answers without their question, and pieces of texts in scripts without spaces: this
finds copies, not leaks of meaning.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from posttrain.core.types import Conversation, Example, Message, Task

# A word, a number, or one sign of arithmetic. A minus behind a letter is a hyphen, which only separates.
_WORDS = re.compile(r"\w+|[+*/=<>^%±]|(?<![^\W\d_])-")
_SIGNS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/"})


@dataclass(frozen=True, slots=True)
class Overlap:
    """A training row that holds an evaluation task: where it stands, the words they share, the task's id."""

    place: str
    ngram: str
    task_id: str

    def __str__(self) -> str:
        return f"{self.place}: shares “{self.ngram}” with evaluation task {self.task_id}."


def overlap(
    examples: Iterable[Example], tasks: Sequence[Task], n: int = 13, *, common: int = 10, limit: int = 1000
) -> list[Overlap]:
    """The rows that overlap, each once, in order; looking stops after `limit`. Streams the rows, holds the tasks."""
    index = Index(tasks, n=n, common=common)
    found: list[Overlap] = []
    for example in examples:
        match = index.match(example)
        if match is not None:
            found.append(match)
            if len(found) >= limit:
                break
    return found


class Index:
    """The evaluation tasks, ready to be looked up row by row."""

    def __init__(self, tasks: Sequence[Task], *, n: int = 13, common: int = 10) -> None:
        self._n = n
        self._whole: dict[tuple[str, ...], str] = {}
        for task in tasks:
            # The last user turn asks the question; those before it are examples or talk.
            asked = next((message.content for message in reversed(task.messages) if message.role == "user"), "")
            if text := words(asked):
                self._whole.setdefault(text, task.id)
        self._ngrams: dict[tuple[str, ...], str] = {}
        prompts: dict[tuple[str, ...], int] = {}
        for text, task_id in self._whole.items():
            for ngram in set(_ngrams(text, n)):
                self._ngrams.setdefault(ngram, task_id)
                prompts[ngram] = prompts.get(ngram, 0) + 1
        for ngram, count in prompts.items():
            if count > common:
                del self._ngrams[ngram]

    def match(self, example: Example) -> Overlap | None:
        """The first task that the row holds, or None."""
        for role, content in _texts(example):
            text = words(content)
            if role == "user" and text in self._whole:
                return Overlap(example.origin, " ".join(text), self._whole[text])
            if not self._ngrams:
                continue
            for ngram in _ngrams(text, self._n):
                if ngram in self._ngrams:
                    return Overlap(example.origin, " ".join(ngram), self._ngrams[ngram])
        return None


def words(text: str) -> tuple[str, ...]:
    """Normalised words of a text: compatibility forms joined, lower case, signs of arithmetic kept."""
    return tuple(_WORDS.findall(unicodedata.normalize("NFKC", text).translate(_SIGNS).lower()))


def _texts(example: Example) -> Iterator[tuple[str, str]]:
    """(role, text) of a row's parts. A passage is looked at as a prompt, and as one text with its completion."""
    if isinstance(example, Conversation):
        yield from ((m.role, _spoken(m)) for m in example.messages if m.role != "system")
    else:
        if example.prompt:
            yield "user", example.prompt
        yield "user", f"{example.prompt} {example.completion}"


def _spoken(message: Message) -> str:
    return f"{message.thinking} {message.content}" if message.thinking else message.content


def _ngrams(text: tuple[str, ...], n: int) -> Iterator[tuple[str, ...]]:
    return (text[start : start + n] for start in range(len(text) - n + 1))
