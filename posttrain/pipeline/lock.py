"""One run at a time in a run directory. The lock is the operating system's, so it ends with its process, kill -9 included."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from posttrain.core.errors import UserError
from posttrain.records.files import disk
from posttrain.records.paths import RunPaths


@contextlib.contextmanager
def locked(run: RunPaths) -> Iterator[None]:
    """Hold the run's lock, or say who does."""
    with disk(run.lock):
        run.root.mkdir(parents=True, exist_ok=True)
        file = run.lock.open("a+", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"{run.root} is in use by another run (process {holder}).", fix="Wait for it, or start this one under --name OTHER."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
