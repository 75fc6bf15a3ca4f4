"""Ctrl-C and SIGTERM during a run: the first asks for a checkpoint at the next step, the second ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from posttrain.core.stage import Stop


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """A Stop that signals set, for the duration of the block."""
    stop = Stop()

    def handle(number: int, _: FrameType | None) -> None:
        if stop:
            os._exit(128 + number)
        stop.signal = number
        # os.write, because a handler may interrupt a print of the same stream
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping after this step, with a checkpoint; once more to stop at once\n")

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
