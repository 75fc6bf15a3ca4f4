"""Training rows that hold evaluation tasks: shared word 13-grams (GPT-3, arXiv:2005.14165, appendix C), and whole prompts.

A prompt too short for an n-gram, such as "What is 17 + 25?", overlaps with a row whose user turn is the same prompt; longer
prompts are looked for anywhere in the row. A question that follows other turns ("Which one was second?") is the same only
after the same turns of the user; as the first turn of a row it counts as it stands. Words are compared in lower case and without
punctuation, but with signs of arithmetic: 17 + 25 is not 17 - 25. System prompts do not count, they are shared on purpose.

Questions made from one template share long n-grams and are not copies of each other. So an n-gram that stands in more than
`common` different evaluation prompts does not count (GPT-3 ignored those with more than ten matches), nor does a question
whose numbers do not all stand in the row in their order, unless the two share a run of LONG words: the same words with other
numbers are another question.

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


LONG = 50
"""Words in a row that make a copy whatever the numbers are: two or three sentences."""

Words = tuple[str, ...]
NO_ROW: Words = ("",)
"""A number that stands in no row."""


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
        self._whole: dict[Words, str] = {}
        self._asked: dict[tuple[Words, Words], str] = {}  # by what the user said before it, too
        for task in tasks:
            # The last user turn asks the question; those before it are examples or talk.
            said = [words(message.content) for message in task.messages if message.role == "user"]
            if said and said[-1]:
                self._whole.setdefault(said[-1], task.id)
                self._asked.setdefault((sum(said[:-1], ()), said[-1]), task.id)
        alone = {asked for before, asked in self._asked if not before}
        # The words of a short question after other turns are anybody's: no numbers that a row has can make it a copy of the task.
        self._numbers = [_numbers(text) if text in alone or len(text) >= 2 * n else NO_ROW for text in self._whole]
        self._ids = list(self._whole.values())
        # n-gram -> the positions in `_ids` of the prompts it stands in
        self._ngrams: dict[Words, list[int]] = {}
        for position, text in enumerate(self._whole):
            for ngram in set(_ngrams(text, n)):
                self._ngrams.setdefault(ngram, []).append(position)
        self._ngrams = {ngram: prompts for ngram, prompts in self._ngrams.items() if len(prompts) <= common}

    def match(self, example: Example) -> Overlap | None:
        """The first task that the row holds, or None."""
        before: Words = ()
        for role, content in _texts(example):
            text = words(content)
            if role == "user" and text in self._whole:
                alone = self._asked.get(((), text)) or (self._whole[text] if not before else None)
                if same := alone or self._asked.get((before, text)):
                    return Overlap(example.origin, " ".join(text), same)
            before += text if role == "user" else ()
            found = self._inside(text) if self._ngrams else None
            if found is not None:
                return Overlap(example.origin, " ".join(found[0]), self._ids[found[1]])
        return None

    def _inside(self, text: Words) -> tuple[Words, int] | None:
        """An n-gram of the text and the prompt it gives away."""
        numbers = _numbers(text)
        runs: dict[int, int] = {}  # prompt -> how many n-grams in a row have stood in it
        for ngram in _ngrams(text, self._n):
            runs = {prompt: runs.get(prompt, 0) + 1 for prompt in self._ngrams.get(ngram, ())}
            for prompt, run in runs.items():
                if _in_order(self._numbers[prompt], numbers) or run + self._n > LONG:
                    return ngram, prompt
        return None


def words(text: str) -> Words:
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


def _ngrams(text: Words, n: int) -> Iterator[Words]:
    return (text[start : start + n] for start in range(len(text) - n + 1))


def _numbers(text: Words) -> Words:
    return tuple(word for word in text if any(character.isdigit() for character in word))


def _in_order(needed: Words, found: Words) -> bool:
    """True if `found` holds all of `needed` in that order, with anything in between."""
    rest = iter(found)
    return all(number in rest for number in needed)
