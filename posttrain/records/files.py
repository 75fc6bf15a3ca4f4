"""Writing so that what existed is never lost and what is torn is never taken for whole.

A file is written beside its place, flushed to the disk and renamed. A directory is written under a temporary name, gets
a manifest with the hash of each file last, and is renamed. So a reader sees the old one or the new one; a directory
without a manifest, or with one that does not match, is not there. Assumes a file system where rename is atomic (any
local one; some network ones are not). `core.faults` may kill the process at each `save:` point: tests/records does.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posttrain.core.errors import EnvironmentFailed
from posttrain.core.faults import fault

MANIFEST = "MANIFEST.json"
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Say a full disk in our words; other errors of the system pass through."""
    try:
        yield
    except Exception as error:  # safetensors' own is no OSError, and this layer does not import it
        if error.errno in FULL if isinstance(error, OSError) else any(f"(os error {number})" in str(error) for number in FULL):
            raise EnvironmentFailed(
                f"the disk is full: {path} could not be written. What was saved before is whole.",
                fix="Free some space and run the same command again; it goes on from the last checkpoint.",
            ) from error
        raise


def free_space(path: Path) -> int:
    """Bytes free on the disk that holds `path`, which need not exist yet."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace a file as a whole, on the disk before this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Plain data as indented JSON, atomically. NaN is refused: JSON has none, so the caller says what it means."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def saving(final: Path) -> Iterator[Path]:
    """A fresh temporary directory, committed as `final` when the block ends well and removed when it does not."""
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    with disk(final):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    commit_directory(temporary, final)


def commit_directory(temporary: Path, final: Path) -> None:
    """Make a written directory final: flush it, write its manifest, rename it. `temporary` is on the same disk.

    An older `final` is moved aside first and deleted after, never written into; if the process dies in between, the
    older one is found again under `final` by `recover`, which runs at the start of each commit beside it.
    """
    with disk(final):
        try:
            fault("save:before-write")
            recover(final.parent)
            final.parent.mkdir(parents=True, exist_ok=True)
            for file in _files(temporary):
                _sync_file(file)
            fault("save:before-manifest")
            write_manifest(temporary, temporary / MANIFEST)
            fault("save:before-rename")
            aside = final.with_name(f".{final.name}.old")
            if final.exists():
                final.rename(aside)
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            recover(final.parent)
            raise
    _sync_directory(final.parent)
    fault("save:after-rename")
    shutil.rmtree(aside, ignore_errors=True)


def recover(parent: Path) -> None:
    """Put back a directory that a killed commit had moved aside; drop it where its successor is in place."""
    for aside in parent.glob(".*.old"):
        final = parent / aside.name[1:-4]
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(final)


def tidy(directory: Path) -> None:
    """Clear up below a folder after a process that was killed. Only for a folder that nobody else writes to now."""
    for folder in {path.parent for pattern in (".*.old", ".*.tmp") for path in directory.rglob(pattern)}:
        recover(folder)
        for left in folder.glob(".*.tmp"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def prune(directory: Path, keep: int) -> None:
    """Delete all but the `keep` last committed directories, by name. A half-deleted one never looks whole."""
    committed = sorted(p for p in directory.iterdir() if p.is_dir() and not p.name.startswith(".") and (p / MANIFEST).exists())
    for old in committed[: len(committed) - keep]:
        doomed = old.with_name(f".{old.name}.{os.getpid()}.tmp")
        old.rename(doomed)
        fault("save:during-prune")
        shutil.rmtree(doomed, ignore_errors=True)


def write_manifest(directory: Path, manifest: Path, *, skip: tuple[str, ...] = (), **more: Any) -> None:
    """Hash every file of a directory but hidden ones and those below the folders in `skip`; `more` stands beside."""
    files = {}
    for file in _files(directory):
        relative = file.relative_to(directory)
        if file != manifest and relative.parts[0] not in skip and not any(part.startswith(".") for part in relative.parts):
            files[relative.as_posix()] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    write_json(manifest, {**more, "files": files})


def verify(directory: Path, manifest: str = MANIFEST) -> list[str]:
    """What is wrong with a committed directory; an empty list if nothing is."""
    path = directory / manifest
    if not path.is_file():
        return [f"{path} is missing: the directory was never completed"]
    try:
        files: dict[str, dict[str, Any]] = json.loads(path.read_text())["files"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        return [f"{path} is damaged: {error}"]
    problems = []
    for name, expected in files.items():
        file = directory / name
        if not file.is_file():
            problems.append(f"{file} is missing")
        elif file.stat().st_size != expected["bytes"]:
            problems.append(f"{file} has {file.stat().st_size} bytes, not {expected['bytes']}")
        elif sha256(file) != expected["sha256"]:
            problems.append(f"{file} was changed after it was saved")
    return problems


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    """Make a rename durable. Directories cannot be opened on every system; there the rename alone has to do."""
    with contextlib.suppress(PermissionError):
        _sync_file(path)
