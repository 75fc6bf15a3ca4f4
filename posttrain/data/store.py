"""Encoded rows on disk: written once as a stream, committed by rename, read by number through a memory map.

A store is a folder of three flat files in native byte order (`tokens` int32, `mask` int8, `offsets` int64, one more than
there are rows). A folder under its own name is complete; a killed writer leaves only `<name>.writing`, which the next one
removes. Neither side holds more than one row.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from array import array
from pathlib import Path
from types import TracebackType
from typing import IO

from posttrain.core.errors import EnvironmentFailed

FILES = ("tokens", "mask", "offsets")


class TokenStoreWriter:
    """Appends rows; `close` commits. As a context manager it commits on success and leaves nothing behind on an error."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise FileExistsError(f"{path} is already written")
        self._path, self._temporary = path, path.with_name(f"{path.name}.writing")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._files: dict[str, IO[bytes]] = {name: (self._temporary / name).open("wb") for name in FILES}
        self._end = 0
        self._write("offsets", array("q", [0]))

    def append(self, tokens: array[int], mask: array[int]) -> None:
        """One row: token ids and a mask of 0 and 1, equally long and not empty."""
        if len(tokens) != len(mask) or not tokens:
            raise ValueError(f"a row has {len(tokens)} tokens and {len(mask)} mask values; expected equally many, at least one")
        self._write("tokens", tokens if tokens.typecode == "i" else array("i", tokens))
        self._write("mask", mask if mask.typecode == "b" else array("b", mask))
        self._end += len(tokens)
        self._write("offsets", array("q", [self._end]))

    def close(self) -> None:
        """Commit: all files on disk, then the rename."""
        try:
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
                file.close()
            self._temporary.rename(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise self._failed(error) from error

    def discard(self) -> None:
        """Give up: leave nothing behind."""
        for file in self._files.values():
            try:
                file.close()
            except OSError:  # what is still buffered does not fit on the disk, and is not wanted
                continue
        shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> TokenStoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _write(self, name: str, values: array[int]) -> None:
        try:
            values.tofile(self._files[name])
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> EnvironmentFailed:
        self.discard()
        fix = "Free some space and run again." if error.errno == errno.ENOSPC else "Check the disk and run again."
        return EnvironmentFailed(f"the encoded data could not be written: {error.strerror}.", place=str(self._path), fix=fix)


class TokenStore:
    """A committed store. `store[i]` copies row i out; `store.length(i)` looks at the offsets only."""

    def __init__(self, path: Path) -> None:
        self._maps: dict[str, memoryview] = {name: _mapped(path / name) for name in FILES}
        self._tokens, self._mask = self._maps["tokens"].cast("i"), self._maps["mask"].cast("b")
        self._offsets = self._maps["offsets"].cast("q")
        if not self._offsets or not self._offsets[-1] == len(self._tokens) == len(self._mask):
            raise EnvironmentFailed("the encoded data is torn.", place=str(path), fix="Remove the folder and run again.")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def tokens(self) -> int:
        """Tokens of all rows together."""
        return len(self._tokens)

    def length(self, row: int) -> int:
        """Tokens of one row."""
        start, end = self._span(row)
        return end - start

    def __getitem__(self, row: int) -> tuple[array[int], array[int]]:
        start, end = self._span(row)
        return array("i", self._tokens[start:end]), array("b", self._mask[start:end])

    def _span(self, row: int) -> tuple[int, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._offsets[row], self._offsets[row + 1]


def _mapped(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise EnvironmentFailed(
            f"the encoded data is not complete: {error.strerror}.", place=str(path), fix="Remove its folder and run again."
        ) from error


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
