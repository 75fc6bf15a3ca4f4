"""Readers of raw text, on files made here: what a reader of the page would see, and reasons for what is left out."""

from __future__ import annotations

import gettext
import gzip
import io
import struct
from pathlib import Path, PurePath

import pytest

from posttrain.data.texts import catalogues, installed, readers, roff
from posttrain.data.texts.document import Unreadable

PAGE = r"""
.\" A comment
.de Hidden
not text
..
.TH LS 1 "2024"
.SH NAME
ls \- list \fIdirectory\fP contents
.SH "SEE ALSO"
.TP
.B \-\-all
do not ignore entries starting with \(aq.\(aq
.PP
.BR cat (1),
caf\('e
.IP "a label" 4
text
"""


def test_a_manual_page_as_its_reader_sees_it() -> None:
    assert roff.plain(PAGE).splitlines() == [
        "NAME",
        "",
        "ls - list directory contents",
        "",
        "SEE ALSO",
        "",
        "--all",
        "do not ignore entries starting with '.'",
        "",
        "cat(1),",
        "café",
        "",
        "a label",
        "text",
    ]


def test_a_page_of_mdoc() -> None:
    page = '.Dd today\n.Sh NAME\n.Nm cat\n.Nd print files\n.Op Fl n\n.Bl -tag\n.It Fl u\nUnbuffered "output".\n.El\n'
    assert roff.plain(page).splitlines() == ["NAME", "", "cat", "print files", "Fl n", "", "Fl u", 'Unbuffered "output".']


def catalogue(pairs: dict[str, str], order: str = "<") -> bytes:
    """A .mo file, laid out as the gettext manual says."""
    encoded = [(a.encode(), b.encode()) for a, b in sorted(pairs.items())]
    count = len(encoded)
    place = 28 + 16 * count
    tables: list[bytes] = []
    content = b""
    for side in (0, 1):
        for pair in encoded:
            tables.append(struct.pack(f"{order}2I", len(pair[side]), place + len(content)))
            content += pair[side] + b"\0"
    return struct.pack(f"{order}7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0) + b"".join(tables) + content


HEADER = "Content-Type: text/plain; charset=utf-8\nLanguage: de\n"
MESSAGES = {"": HEADER, "File": "Datei", "%d file\0%d files": "%d Datei\0%d Dateien", "Empty": ""}


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_compiled_catalogue_in_both_byte_orders(order: str) -> None:
    data = catalogue(MESSAGES, order)
    assert catalogues.compiled(data) == ("de", "%d Dateien\nDatei")
    assert gettext.GNUTranslations(io.BytesIO(data)).gettext("File") == "Datei"  # the standard library reads the same file


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a message catalogue"),
        (b"x" * 40, "not a message catalogue"),
        (catalogue(MESSAGES)[:60], "torn"),
        (catalogue({"": "charset=utf-8", "a": "b"}).replace(b"b\0", b"\xff\0"), "charset"),
        (catalogue({"": "charset=klingon", "a": "b"}), "charset"),
    ],
)
def test_a_broken_catalogue_is_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        catalogues.compiled(data)


def test_a_source_catalogue() -> None:
    text = (
        'msgid ""\nmsgstr ""\n"Language: fr\\n"\n\n#: a.c:1\nmsgid "Hello"\nmsgstr "Bonjour "\n"à \\"tous\\""\n\n'
        '#, fuzzy\nmsgid "Bye"\nmsgstr "Peut-être"\n\n'
        'msgid "%d dog"\nmsgid_plural "%d dogs"\nmsgstr[0] "%d chien"\nmsgstr[1] "%d chiens"\n\n'
        '#~ msgid "Old"\n#~ msgstr "Vieux"\n'
    )
    assert catalogues.source(text) == ("fr", 'Bonjour à "tous"\n%d chiens')


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("share/locale/pt_BR/LC_MESSAGES/x.mo", "pt_BR"),
        ("zh_CN.UTF-8/LC_MESSAGES/x.mo", "zh_CN"),
        ("po/de.po", "de"),
        ("po/messages.po", "und"),
    ],
)
def test_a_catalogues_language_is_in_its_path(path: str, language: str) -> None:
    assert catalogues.language_of(PurePath(path)) == language


def test_files_of_all_kinds_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "de/man1").mkdir(parents=True)
    (tmp_path / "man1").mkdir()
    (tmp_path / "fi/LC_MESSAGES").mkdir(parents=True)
    (tmp_path / "a.md").write_text("# Hello")
    (tmp_path / "data.bin").write_text("no text")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "man1/ls.1").write_text(PAGE)
    (tmp_path / "man1/dir.1").write_text(".so man1/ls.1\n")
    (tmp_path / "de/man1/ls.1.gz").write_bytes(gzip.compress(".SH ÜBERSICHT\n".encode()))
    (tmp_path / "man1/torn.1.gz").write_bytes(gzip.compress(PAGE.encode())[:20])
    (tmp_path / "fi/LC_MESSAGES/x.mo").write_bytes(catalogue({"": HEADER, "File": "Tiedosto"}))
    found, reasons = {}, {}
    for item in readers.items(tmp_path):
        try:
            document = item.read()
            found[document.origin] = (document.language, document.text[:9])
        except Unreadable as reason:
            reasons[item.name] = str(reason)
    assert found == {
        "a.md": ("und", "# Hello"),
        "man1/ls.1": ("en", "NAME\n\nls "),
        "de/man1/ls.1.gz": ("de", "ÜBERSICHT"),
        "fi/LC_MESSAGES/x.mo": ("fi", "Tiedosto"),
    }
    assert reasons == {"b.txt": "not UTF-8", "man1/dir.1": "points to another page", "man1/torn.1.gz": "cannot be read"}


def test_documentation_of_the_standard_library_is_read_and_not_run() -> None:
    by_name = {item.name: item for item in installed.python_documentation()}
    assert "topic/assert" in by_name and not any("/test/" in name for name in by_name)
    text = by_name["module/textwrap.py"].read().text
    assert text.startswith("textwrap\n\nText wrapping and filling.")
    assert "class TextWrapper\n" in text and "TextWrapper.wrap(self, text)\n" in text and "import re" not in text


def test_descriptions_of_installed_packages() -> None:
    names = {item.name.partition(" ")[0] for item in installed.package_documentation()}
    assert {"torch", "transformers", "pytest"} <= names
    pytest_readme = next(item for item in installed.package_documentation() if item.name.startswith("pytest "))
    assert "pytest" in pytest_readme.read().text


def test_manual_pages_are_found_where_manpath_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "man1").mkdir()
    (tmp_path / "man1/ls.1").write_text(PAGE)
    monkeypatch.setenv("MANPATH", f"{tmp_path}:{tmp_path / 'none'}")
    assert [item.read().language for item in installed.man_pages()] == ["en"]


def test_translations_are_found_below_the_environment_and_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, language in (("share/locale", "fi"), ("packages/thing/locale", "sv")):
        (tmp_path / folder / language / "LC_MESSAGES").mkdir(parents=True)
        (tmp_path / folder / language / "LC_MESSAGES/x.mo").write_bytes(catalogue({"": HEADER, "File": language}))
    (tmp_path / "packages/readme.md").write_text("no catalogue")
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path / "packages")])
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"purelib": str(tmp_path / "packages")})
    ours = [item for item in installed.message_catalogues() if item.name[0] in "03"]  # 1 and 2 are the machine's own folders
    assert [item.read().language for item in ours] == ["fi", "sv"]
