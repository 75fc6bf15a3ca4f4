"""Message catalogues of gettext, compiled (.mo) and as translators write them (.po): the translations, one a line.

Formats: the GNU gettext manual, "The Format of GNU MO Files" and "The Format of PO Files". Both begin with a header, the
translation of the empty message, which names the charset and the language. Fuzzy and obsolete entries of a .po are left out.
The source language's messages are not in the text: a catalogue is a document in its own language.
"""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Iterator
from pathlib import PurePath

from posttrain.data.texts.document import UNKNOWN, Unreadable

MAGIC = 0x950412DE


def compiled(data: bytes) -> tuple[str, str]:
    """(language or "", text) of a .mo file."""
    if len(data) < 28:
        raise Unreadable("not a message catalogue")
    order = next((mark for mark in "<>" if struct.unpack_from(f"{mark}I", data)[0] == MAGIC), None)
    if order is None:
        raise Unreadable("not a message catalogue")
    try:
        _, _, count, originals, translations = struct.unpack_from(f"{order}5I", data)
        pairs = [(_string(data, order, originals + 8 * i), _string(data, order, translations + 8 * i)) for i in range(count)]
    except struct.error as error:
        raise Unreadable("a torn message catalogue") from error
    header = next((translation for original, translation in pairs if not original), b"").decode("ascii", errors="replace")
    try:
        charset = _charset(header)
        # plural forms are parted by a zero byte; the last one is the general plural
        texts = [translation.decode(charset).split("\x00")[-1] for original, translation in pairs if original]
    except (UnicodeDecodeError, LookupError) as error:
        raise Unreadable("not in the charset it names") from error
    return _language(header), _joined(texts)


def source(text: str) -> tuple[str, str]:
    """(language or "", text) of a .po file."""
    header, texts = "", []
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        if re.search(r"^#,.*\bfuzzy\b", block, flags=re.MULTILINE) and 'msgid ""\nmsgstr' not in block:
            continue
        original, translation = "", ""
        for keyword, value in _strings(block):
            if keyword == "msgid":
                original += value
            elif keyword.startswith("msgstr"):
                translation = value
        if original:
            texts.append(translation)
        elif translation:
            header = translation
    return _language(header), _joined(texts)


def language_of(path: PurePath) -> str:
    """The language that a catalogue's path names: <language>/LC_MESSAGES/<domain>.mo, or <language>.po."""
    parts = path.parts
    if "LC_MESSAGES" in parts[1:]:
        return parts[parts.index("LC_MESSAGES") - 1].partition(".")[0]
    return path.stem if re.fullmatch(r"[a-z]{2,3}([_-][A-Za-z]{2,4})?(@\w+)?", path.stem) else UNKNOWN


def _string(data: bytes, order: str, place: int) -> bytes:
    length, start = struct.unpack_from(f"{order}2I", data, place)
    if start + length > len(data):
        raise Unreadable("a torn message catalogue")
    return data[start : start + length]


def _strings(block: str) -> Iterator[tuple[str, str]]:
    """(keyword, whole value) of each entry of a block; strings on following lines belong to the keyword before."""
    keyword, value = "", ""
    for line in block.splitlines():
        found = re.fullmatch(r'(?:(msgctxt|msgid|msgid_plural|msgstr(?:\[\d+\])?)\s+)?(".*")\s*', line.strip())
        if found is None:
            continue
        if found[1]:
            if keyword:
                yield keyword, value
            keyword, value = found[1], ""
        try:
            value += ast.literal_eval(found[2])
        except (SyntaxError, ValueError):
            raise Unreadable("a string that is not closed") from None
    if keyword:
        yield keyword, value


def _joined(texts: list[str]) -> str:
    return "\n".join(text.strip() for text in texts if text.strip())


def _charset(header: str) -> str:
    found = re.search(r"charset=([\w.-]+)", header)
    return found[1] if found and found[1] != "CHARSET" else "utf-8"


def _language(header: str) -> str:
    found = re.search(r"^Language:\s*([A-Za-z_@-]+)\s*$", header, flags=re.MULTILINE)
    return found[1] if found else ""
