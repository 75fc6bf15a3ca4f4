"""Sources of raw text -> documents: files, folders, rows with a column `text`, and what is installed on the machine.

Documents come in an order drawn by the seed (rows of a file in the file's own), each once: exact repetitions, within a
source and across the sources of a stage, are dropped. What cannot be read is counted by its reason, and so is everything
else that is left out; a source that gives nothing at all is an error. Nothing is held but the names of the files.

A tenth of a source's documents is kept for measuring. Which ones, a hash of their name decides and nothing else: so what one
stage measures on, no other stage has trained on, whatever its seed, order and filters. Fails where two documents of different
names are nearly the same text; exact copies of what is measured are dropped from training.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from posttrain.core.config.midtrain import TextSource
from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.seeds import derive
from posttrain.data.dedup import DigestSet
from posttrain.data.files import READERS as ROW_READERS
from posttrain.data.files import rows, shown_name
from posttrain.data.sources import BUILTIN, resolve
from posttrain.data.texts import generated, installed, readers
from posttrain.data.texts.document import UNKNOWN, Document, Item, Unreadable

GENERATED = "generated-text"
GENERATED_COUNT = 10_000
"""Documents of builtin:generated-text where `count` is not set: it has no end."""
NAMES = (*installed.SETS, GENERATED)
TENTH = 10


@dataclass
class Found:
    """What a source gave to train on so far, and what it left out. `digest` is over the texts in their order: equal digests
    mean equal text."""

    documents: int = 0
    characters: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "languages": dict(self.languages.most_common()), "left_out": dict(self.left_out.most_common())}


class Texts:
    """One source's documents: those to measure on, then those to train on, with the account of them in `found`.

    `items` opens the source anew; `measured` says of an item's name whether it is one to measure on. Call `held_out` first,
    so that copies of what it gives are not trained on.
    """

    def __init__(
        self, source: TextSource, items: Callable[[], Iterator[Item]], measured: Callable[[str], bool], seen: DigestSet
    ) -> None:
        self.source, self.found = source, Found()
        self._items, self._measured, self._seen = items, measured, seen

    def held_out(self) -> Iterator[Document]:
        return (document for item in self._items() if self._measured(item.name) and (document := self._read(item)))

    def train(self) -> Iterator[Document]:
        """At most `count` documents. Raises UserError where there is not one."""
        digest = hashlib.sha256()
        for item in self._items():
            if self._measured(item.name) or (document := self._read(item)) is None:
                continue
            self.found.documents += 1
            self.found.characters += len(document.text)
            self.found.languages[document.language] += 1
            digest.update(document.text.encode() + b"\x00")
            self.found.digest = digest.hexdigest()
            yield document
            if self.found.documents == self.source.count:
                return
        if not self.found.documents:
            raise self.nothing("to train on")

    def _read(self, item: Item) -> Document | None:
        try:
            return self._wanted(item.read())
        except Unreadable as reason:
            self.found.left_out[str(reason)] += 1
            return None

    def _wanted(self, document: Document) -> Document:
        if not document.text.strip():
            raise Unreadable("empty")
        if self.source.languages and document.language not in self.source.languages:
            raise Unreadable("of another language")
        if len(document.text) < self.source.shortest:
            raise Unreadable(f"shorter than {self.source.shortest} characters")
        if not self._seen.add(int.from_bytes(hashlib.blake2b(document.text.encode(), digest_size=8).digest(), "big")):
            raise Unreadable("exact duplicate")
        return document if self.source.longest is None else replace(document, text=document.text[: self.source.longest])

    def nothing(self, use: str) -> UserError:
        why = ", ".join(f"{count} {reason}" for reason, count in self.found.left_out.most_common(4))
        return UserError(
            f"source {self.source.source!r} holds no text {use}{f' ({why})' if why else ''}; "
            "one document in ten is kept to measure on.",
            fix="Give it more documents, relax its filters, or use builtin:generated-text.",
        )


def texts(source: TextSource, *, references: Mapping[str, str], base: Path, seed: int, seen: DigestSet | None = None) -> Texts:
    """The documents of a source. `references` maps a stage's id to the file it wrote; `seen` is shared by the sources of a
    stage. Raises UserError for a source that is not there; one without usable text raises when it is read."""
    seen = DigestSet() if seen is None else seen
    if source.source == f"{BUILTIN}{GENERATED}":
        return Texts(source, partial(generated.items, source.count or GENERATED_COUNT, seed), kept_to_measure, seen)
    if source.source.startswith(BUILTIN):
        found = _builtin(source.source.removeprefix(BUILTIN))
    else:
        path = resolve(source.source, references, base)
        if path.suffix.lower() in ROW_READERS:
            next(rows(path, shown_name(path, base)))  # a file that cannot be read is refused here
            return Texts(source, partial(_rows, path, shown_name(path, base)), kept_to_measure, seen)
        found = _files(path, shown_name(path, base))
    ordered = sorted(found, key=lambda item: item.name)
    # also of a few documents, one is kept to measure on
    fewest = min((item.name for item in ordered), key=_place, default="")
    random.Random(derive(seed, "texts", len(ordered))).shuffle(ordered)
    return Texts(source, lambda: iter(ordered), lambda name: name == fewest or kept_to_measure(name), seen)


def kept_to_measure(name: str) -> bool:
    return _place(name) % TENTH == 0


def _place(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def _builtin(name: str) -> Iterator[Item]:
    if name not in installed.SETS:
        raise UserError(f"there is no built-in text {name!r}.", fix=did_you_mean(name, NAMES))
    return installed.SETS[name]()


def _files(path: Path, shown: str) -> Iterator[Item]:
    if path.is_dir():
        return readers.items(path)
    if not path.is_file():
        raise UserError("there is no such file or folder.", place=shown, fix=f"Check the path, or use one of {_listed()}.")
    if readers.reader_of(path) is None:
        kinds = ", ".join((*readers.PLAIN, ".mo", ".po", *ROW_READERS))
        raise UserError(f"is no text that can be read ({kinds}, manual pages).", place=shown, fix="Rename it to what it is.")
    return iter([Item(path.name, partial(readers.read, path))])


def _rows(path: Path, shown: str) -> Iterator[Item]:
    for row in rows(path, shown):
        text = row.values.get("text")
        if not isinstance(text, str):
            found = ", ".join(sorted(row.values)) or "none"
            raise UserError(
                f"has no column 'text' (columns: {found}).", place=row.place, fix="Give raw text, or use stage kind sft."
            )
        language = row.values.get("language", UNKNOWN)
        yield Item(row.place, partial(Document, row.place, text, str(language)))


def _listed() -> str:
    return ", ".join(f"{BUILTIN}{name}" for name in NAMES)
