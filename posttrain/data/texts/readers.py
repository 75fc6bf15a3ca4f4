"""Files of text -> documents: plain text, manual pages and message catalogues, each also compressed by gzip.

A file that is not what its name says, or not UTF-8, is left out with a reason that is counted. Links are followed to files
and never to folders; a page that only points to another (`.so man1/x.1`) is left out.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePath

from posttrain.data.texts import catalogues, roff
from posttrain.data.texts.document import UNKNOWN, Document, Item, Unreadable

PLAIN = (".txt", ".md", ".rst")
_MANUAL = re.compile(r"\.[1-9][a-z]*$")
Reader = Callable[[bytes, PurePath], tuple[str, str]]
"""(content, path) -> (language, text)."""


def reader_of(path: PurePath) -> Reader | None:
    """How a file of this name is read; None if it is no text we know."""
    name = path.name.removesuffix(".gz")
    suffix = PurePath(name).suffix
    if suffix in PLAIN:
        return _plain
    if suffix in (".mo", ".po"):
        return _catalogue
    return _manual if _MANUAL.search(name) else None


def items(folder: Path) -> Iterator[Item]:
    """Every file of text below a folder, unread."""
    for path in folder.rglob("*"):
        if reader_of(path) is not None and path.is_file():
            name = path.relative_to(folder).as_posix()
            yield Item(name, partial(read, path, name))


def read(path: Path, name: str = "") -> Document:
    """One file as a document. Raises Unreadable."""
    reader = reader_of(path)
    if reader is None:
        raise Unreadable("of an unknown kind")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable("cannot be read") from error
    language, text = reader(data, PurePath(name or path))
    return Document(name or path.name, text, language)


def _plain(data: bytes, path: PurePath) -> tuple[str, str]:
    return UNKNOWN, _decoded(data)


def _manual(data: bytes, path: PurePath) -> tuple[str, str]:
    """man/<language>/man1/x.1, or man1/x.1 for English."""
    source = _decoded(data)
    if re.match(r"(?:\.\\\".*\n)*\.so ", source):
        raise Unreadable("points to another page")
    parts = path.parts
    place = next((i for i, part in enumerate(parts[:-1]) if re.fullmatch(r"man[1-9].*", part)), None)
    language = UNKNOWN if place is None else parts[place - 1].partition(".")[0] if place and parts[place - 1] != "man" else "en"
    return language, roff.plain(source)


def _catalogue(data: bytes, path: PurePath) -> tuple[str, str]:
    named = catalogues.language_of(PurePath(str(path).removesuffix(".gz")))
    compiled = path.name.removesuffix(".gz").endswith(".mo")
    inside, text = catalogues.compiled(data) if compiled else catalogues.source(_decoded(data))
    return (named if named != UNKNOWN else inside or UNKNOWN), text


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable("not UTF-8") from error
