"""The program in a model's answer: the last fenced block of Python.

Reasoning is cut off first. Blocks of another language are passed over; a block that never closes is none, because the answer was
cut short. For several files, each block names its file after the language: ```python src/shapes.py
Fails for programs that contain a line of three backquotes themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from posttrain.graders.extract import after_thinking

PYTHON = {"", "python", "py", "python3"}
_block = re.compile(r"^[ ]{0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^\n`]*)\n(?P<body>.*?)^[ ]{0,3}(?P=fence)[ \t]*$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, what else stood on its first line, and its text."""

    language: str
    info: str
    text: str


def blocks(text: str) -> list[Block]:
    found = []
    for match in _block.finditer(after_thinking(text).replace("\r\n", "\n")):
        language, _, info = match["info"].strip().partition(" ")
        if language.lower() in PYTHON:
            found.append(Block(language.lower(), info.strip(), match["body"]))
    return found


def last_program(text: str) -> str | None:
    found = blocks(text)
    return found[-1].text if found else None


def files(text: str, names: Sequence[str]) -> dict[str, str]:
    """The last block for each of these files. A single file needs no name."""
    found = blocks(text)
    if len(names) == 1 and found:
        return {names[0]: found[-1].text}
    return {name: block.text for block in found for name in names if name in block.info.split()}
