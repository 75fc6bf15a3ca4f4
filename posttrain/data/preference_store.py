"""Encoded preferences on disk: every answer's whole conversation as a row, and which rows are compared, by number.

A store is a folder with a token store (`rows`) and flat arrays in native byte order. Preference i has the rows
`answers[i]` to `answers[i+1]` and the comparisons `pairs[i]` to `pairs[i+1]`; `better` and `worse` count from its first row.
A folder under its own name is complete. Tokens stay on the disk; the arrays (some 50 bytes a pair) are read whole.
"""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.core.errors import EnvironmentFailed
from posttrain.core.types import Pair
from posttrain.data.store import TokenStore, TokenStoreWriter

ARRAYS = {"answers": "q", "pairs": "q", "prompt": "q", "better": "i", "worse": "i", "probability": "d", "margin": "d", "label": "b"}
UNKNOWN = -1
Encoded = tuple["array[int]", "array[int]"]


@dataclass(frozen=True)
class Compared:
    """K encoded answers to one prompt, prompt included, and the pairs among them. `masks` are 1 on what the answer wrote;
    `labels` say of each whether it is desirable, where that is known."""

    rows: Sequence[array[int]]
    masks: Sequence[array[int]]
    pairs: Sequence[Pair]
    labels: Sequence[bool] = ()


class PreferenceStoreWriter:
    """As a context manager it commits on success and leaves nothing behind on an error."""

    def __init__(self, path: Path) -> None:
        self._path, self._temporary = path, path.with_name(f"{path.name}.writing")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._rows = TokenStoreWriter(self._temporary / "rows")
        self._arrays: dict[str, array[Any]] = {name: array(kind) for name, kind in ARRAYS.items()}
        self._count = 0
        self._arrays["answers"].append(0)
        self._arrays["pairs"].append(0)

    def append(self, answers: Sequence[Encoded], pairs: Sequence[Pair], prompt: int, labels: Sequence[bool] = ()) -> None:
        """One preference. Equal prompts have an equal `prompt` number, so that they can be held out together."""
        for tokens, mask in answers:
            self._rows.append(tokens, mask)
        self._count += len(answers)
        self._arrays["label"].extend(labels or [UNKNOWN] * len(answers))
        for pair in pairs:
            self._arrays["better"].append(pair.better)
            self._arrays["worse"].append(pair.worse)
            self._arrays["probability"].append(pair.probability)
            self._arrays["margin"].append(float("nan") if pair.margin is None else pair.margin)
        self._arrays["answers"].append(self._count)
        self._arrays["pairs"].append(len(self._arrays["better"]))
        self._arrays["prompt"].append(prompt)

    def __enter__(self) -> PreferenceStoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            self._rows.discard()
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        self._rows.close()
        try:
            for name, values in self._arrays.items():
                with (self._temporary / name).open("wb") as file:
                    values.tofile(file)
                    file.flush()
                    os.fsync(file.fileno())
            self._temporary.rename(self._path)
        except OSError as failed:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise EnvironmentFailed(
                f"the encoded preferences could not be written: {failed.strerror}.", place=str(self._path), fix="Free some space."
            ) from failed


class PreferenceStore:
    """A committed store. `store[i]` reads preference i."""

    def __init__(self, path: Path) -> None:
        self._rows = TokenStore(path / "rows")
        self._arrays: dict[str, array[Any]] = {}
        for name, kind in ARRAYS.items():
            values: array[Any] = array(kind)
            file = path / name
            with file.open("rb") as stream:
                values.fromfile(stream, file.stat().st_size // values.itemsize)
            self._arrays[name] = values

    def __len__(self) -> int:
        return len(self._arrays["prompt"])

    def prompt(self, index: int) -> int:
        """The number of a preference's prompt."""
        return int(self._arrays["prompt"][index])

    def __getitem__(self, index: int) -> Compared:
        rows, masks = zip(*(self._rows[row] for row in self._span("answers", index)), strict=True)
        labels = [self._arrays["label"][row] for row in self._span("answers", index)]
        known = [] if UNKNOWN in labels else [bool(label) for label in labels]
        return Compared(rows, masks, [self._pair(pair) for pair in self._span("pairs", index)], known)

    def numbers(self, index: int) -> range:
        """The numbers of a preference's answers among those of all, for what is kept beside the store."""
        return self._span("answers", index)

    def _span(self, name: str, index: int) -> range:
        if not 0 <= index < len(self):
            raise IndexError(f"preference {index} of {len(self)}")
        return range(int(self._arrays[name][index]), int(self._arrays[name][index + 1]))

    def _pair(self, index: int) -> Pair:
        margin = float(self._arrays["margin"][index])
        better, worse = int(self._arrays["better"][index]), int(self._arrays["worse"][index])
        return Pair(better, worse, float(self._arrays["probability"][index]), margin if margin == margin else None)
