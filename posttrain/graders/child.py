"""The inside of a grader's process: load one handler, then answer requests one at a time.

Requests and replies are JSON lines on the file descriptors the parent opened. They are moved away from 0 and 1 first,
so a grader that prints cannot break the protocol. The process dies with the parent thread that started it (Linux only;
elsewhere it ends when its input closes, which a hung handler does not notice).
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any, BinaryIO

PR_SET_PDEATHSIG = 1


def main() -> None:
    die_with_parent()
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 (a file descriptor is what is needed)
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    module, function, arguments = json.loads(sys.argv[2])
    try:
        handle = getattr(importlib.import_module(module), function)(*arguments)
    except BaseException as problem:  # the border: the user's file is loaded here
        send(replies, {"failed": explain(problem)})
        return
    send(replies, {"ready": True})
    for line in requests:
        request = json.loads(line)
        send(replies, {"begun": request["id"]})
        send(replies, answer(handle, request))


def answer(handle: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        reply = {"id": request["id"], "reply": handle(request["body"])}
        json.dumps(reply)
    except BaseException as problem:  # the border: the user's function runs here, SystemExit included
        return {"id": request["id"], "raised": explain(problem)}
    return reply


def explain(problem: BaseException) -> str:
    """The exception and the last line of code it passed, in one line."""
    frames = traceback.extract_tb(problem.__traceback__)
    place = f" (at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""  # noqa: PTH119
    return f"{type(problem).__name__}: {problem}"[:400].replace("\n", " ") + place


def send(replies: BinaryIO, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message).encode() + b"\n")
    replies.flush()


def die_with_parent() -> None:
    if sys.platform == "linux":
        parent = int(sys.argv[3])
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
