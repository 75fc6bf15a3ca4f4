"""Prints the project's tree with one line per file, or writes it into the README (`make tree`).

A Python file's line is the first sentence of its docstring and a package's is its `__init__`'s, so the tree cannot say
something else than the code. tests/test_architecture.py fails while the README's tree is another one.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- tree: written by `make tree` -->\n```text\n", "```\n<!-- end of tree -->"
COLUMN = 32

TOP = {
    "posttrain": "the library",
    "benchmarks": "how fast: each script measures us beside a peer and writes a record",
    "experiments": "what was tried with a hypothesis stated before, and what came out",
    "parity": "the losses beside TRL's on the same tensors",
    "docs": "for people",
    "examples": "to read, to copy, and to hold the library to",
    "tests": "mirrors posttrain/: tests/<package>/test_<file>.py; require.py names what a machine may lack",
    "scripts": "what make calls",
    ".ci/run": "what a submission must pass",
    "Makefile": "setup demo test lint format tree lock bench experiment parity clean",
    "requirements.lock": "every dependency but torch, with hashes",
}
FOLDERS = {
    "recipes": "Recipes that come with posttrain",
    "posttrain/environments/web/templates": "The shop's pages",
    "posttrain/environments/almanac.json": "Articles and tables of an invented country, so that no model can know them",
    "posttrain/graders/labelled": "Answers and what a person says of them, by grader: what error rates are measured on",
    "templates": "The report's page and its style",
    "docs/shop.png": "An order in the web shop, as Chromium shows it",
    "examples/data": "A few rows of each pattern of SFT data",
}  # cannot say it themselves
CLOSED = {"templates", "tests", "benchmarks", "experiments", "parity", "examples/data", "posttrain/graders/labelled"}  # a line each


def first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph)[0].removesuffix(".")


def purpose(path: Path) -> str:
    """What a file says about itself: docstring, first comment (YAML, shell), first heading (Markdown)."""
    for name in known_as(path):
        if name in FOLDERS:
            return FOLDERS[name]
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if path.is_dir():
        text = (path / "__init__.py").read_text(encoding="utf-8") if (path / "__init__.py").exists() else '""'
        return first_sentence(ast.get_docstring(ast.parse(text)) or "")
    if path.suffix == ".py":
        return first_sentence(ast.get_docstring(ast.parse(text)) or "")
    if path.suffix in {".yaml", ".sh"}:
        comments = (line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("# "))
        return first_sentence(next(comments, ""))
    return next((line.lstrip("# ") for line in text.splitlines() if line.startswith("# ")), "")


def known_as(path: Path) -> tuple[str, str]:
    """What FOLDERS and CLOSED may call a folder: by its place, or by its name alone."""
    return path.relative_to(ROOT).as_posix(), path.name


def shown(folder: Path) -> list[Path]:
    """Folders first, then files, each by name; no caches, no `__init__.py` (its package's line speaks for it)."""
    hidden = {"__pycache__", "__init__.py", "py.typed"}
    children = [p for p in folder.iterdir() if p.name not in hidden and not p.name.startswith(".")]
    return sorted(children, key=lambda p: (p.is_file(), p.name))


def lines(path: Path, depth: int, text: str = "") -> Iterator[str]:
    name = "  " * depth + path.relative_to(ROOT).as_posix() if depth == 0 else "  " * depth + path.name
    name += "/" if path.is_dir() else ""
    yield f"{name:<{COLUMN}}{text or purpose(path)}".rstrip()
    if path.is_dir() and not CLOSED & set(known_as(path)):
        for child in shown(path):
            yield from lines(child, depth + 1)


def tree() -> str:
    existing = ((ROOT / name, text) for name, text in TOP.items() if (ROOT / name).exists())
    return "".join(f"{line}\n" for path, text in existing for line in lines(path, 0, text))


def in_readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def write() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(text.replace(BEGIN + in_readme() + END, BEGIN + tree() + END), encoding="utf-8")


if __name__ == "__main__":
    write() if "--write" in sys.argv else print(tree(), end="")
