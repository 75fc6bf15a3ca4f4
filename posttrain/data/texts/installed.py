"""Text that is on the machine already: documentation of Python and of installed packages, manual pages, translations.

Nothing is imported or run to get it: docstrings are read from source files. What is found depends on the machine, so a stage
records how much there was, in which languages, and a digest of the text. Documentation counts as English.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from posttrain.data.texts import readers
from posttrain.data.texts.document import Document, Item, Unreadable

LEFT_OUT = ("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__", "pydoc_data", "turtledemo")


def python_documentation() -> Iterator[Item]:
    """The language reference of `help()`, topic by topic, and each module of the standard library with its docstrings."""
    from pydoc_data.topics import topics

    for topic, text in topics.items():
        yield Item(f"topic/{topic}", partial(Document, f"python/topic/{topic}", text, "en"))
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in root.rglob("*.py"):
        name = path.relative_to(root)
        if not any(part in LEFT_OUT for part in name.parts):
            yield Item(f"module/{name.as_posix()}", partial(_module, path, ".".join(name.with_suffix("").parts)))


def _module(path: Path, name: str) -> Document:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable("no Python source") from error
    text = "\n\n".join(_docstrings(tree, ""))
    if not text:
        raise Unreadable("no docstrings")
    return Document(f"python/module/{name}", f"{name}\n\n{text}", "en")


def _docstrings(node: ast.AST, prefix: str) -> Iterator[str]:
    """Each docstring under its signature, in the order of the file."""
    if isinstance(node, ast.Module) and (text := ast.get_docstring(node)):
        yield text
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        is_class = isinstance(child, ast.ClassDef)
        signature = f"class {prefix}{child.name}" if is_class else f"{prefix}{child.name}({ast.unparse(child.args)})"  # type: ignore[union-attr]
        if text := ast.get_docstring(child):
            yield f"{signature}\n{text}"
        if is_class:
            yield from _docstrings(child, f"{prefix}{child.name}.")


def package_documentation() -> Iterator[Item]:
    """The description of each installed package (its README, as the package index shows it)."""
    for package in importlib.metadata.distributions():
        name = package.metadata["Name"] or ""
        if name:
            yield Item(f"{name.lower()} {package.version}", partial(_description, package, name))


def _description(package: importlib.metadata.Distribution, name: str) -> Document:
    payload = package.metadata.get_payload()  # type: ignore[attr-defined]
    text = payload if isinstance(payload, str) else ""
    text = text.strip() or str(package.metadata["Description"] or "").strip()
    if not text or text == "UNKNOWN":
        raise Unreadable("no description")
    return Document(f"package/{name}", text, "en")


def man_pages() -> Iterator[Item]:
    """The manual pages in the folders of MANPATH, else in the usual ones."""
    usual = [Path(sys.prefix) / "share/man", Path("/usr/local/share/man"), Path("/usr/share/man")]
    named = [Path(folder) for folder in os.environ.get("MANPATH", "").split(os.pathsep) if folder]
    return _below(named or usual)


def message_catalogues() -> Iterator[Item]:
    """Translations of programs and packages: <folder>/<language>/LC_MESSAGES/<domain>.mo."""
    usual = [Path(sys.prefix) / "share/locale", Path("/usr/local/share/locale"), Path("/usr/share/locale")]
    packages = [Path(folder) for folder in dict.fromkeys([*site.getsitepackages(), sysconfig.get_paths()["purelib"]])]
    for item in _below([*usual, *packages]):
        if item.name.removesuffix(".gz").endswith((".mo", ".po")):
            yield item


def _below(folders: list[Path]) -> Iterator[Item]:
    for number, folder in enumerate(dict.fromkeys(folders)):
        for item in readers.items(folder) if folder.is_dir() else ():
            yield Item(f"{number}/{item.name}", item.read)  # not the folder's name, which differs between machines


SETS: dict[str, Callable[[], Iterator[Item]]] = {
    "python-documentation": python_documentation,
    "package-documentation": package_documentation,
    "man-pages": man_pages,
    "message-catalogues": message_catalogues,
}
