"""Named points where a test may kill the process, fail a write or poison a number, to prove the promises.

`POSTTRAIN_FAULT=point[:n]=action` acts at the n-th passage (1 is the first). Actions: kill (SIGKILL), term (SIGTERM),
interrupt (SIGINT), nan (`fault` returns True, the caller poisons its value), enospc (raises OSError). Unset in normal runs.
"""

from __future__ import annotations

import errno
import os
import signal

_passages: dict[str, int] = {}


def fault(point: str) -> bool:
    """Pass a named point. True only where the environment asks this passage to be poisoned."""
    spec = os.environ.get("POSTTRAIN_FAULT")
    if not spec:
        return False
    where, _, action = spec.partition("=")
    name, _, count = where.rpartition(":")  # points contain a colon themselves, so the last part counts only if it is a number
    if not count.isdigit():
        name, count = where, "1"
    if name != point:
        return False
    _passages[point] = _passages.get(point, 0) + 1
    if _passages[point] != int(count):
        return False
    if action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), point)
    if action == "nan":
        return True
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "interrupt": signal.SIGINT}[action])
    return False
