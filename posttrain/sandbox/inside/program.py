"""Role "program": run one file as Python would run it, with standard input, output and error, and say how it ended.

Only the exit status leaves: 0, the program's own, 1 after an exception, `OUT_OF_MEMORY` after a MemoryError nobody caught.
"""

from __future__ import annotations

import atexit
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NAME = "program.py"
OUT_OF_MEMORY = 71
BROKEN_BEFORE = 70
"""The program was never started."""


def program(payload: Mapping[str, Any], ready: Any) -> None:
    write_files(payload.get("files", {}))
    ready()
    leave(run(payload["source"]))


def write_files(files: Mapping[str, str]) -> None:
    """Into the present folder. Names have been checked where they were declared."""
    for name, text in files.items():
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)


def run(source: str) -> int:
    """Execute as `__main__`; the exit status."""
    module = type(sys)("__main__")
    module.__file__ = NAME
    sys.modules["__main__"] = module
    sys.argv = [NAME]
    return guarded(source, NAME, vars(module))


def guarded(source: str, name: str, scope: dict[str, Any]) -> int:
    try:
        exec(compile(source, name, "exec"), scope)
    except SystemExit as end:
        return status_of(end)
    except MemoryError:
        say(["MemoryError\n"])
        return OUT_OF_MEMORY
    except BaseException as error:  # whatever a program raises ends it, as in any Python
        say(trace(error, source, name))
        return 1
    return 0


def trace(error: BaseException, source: str, name: str) -> list[str]:
    """As Python would print it, from the program's own first line on."""
    import linecache
    import traceback

    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    start = error.__traceback__
    return traceback.format_exception(type(error), error, start.tb_next if start else None)


def status_of(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    say([f"{end.code}\n"])
    return 1


def say(lines: list[str]) -> None:
    try:
        sys.stderr.writelines(lines)
    except (OSError, ValueError, AttributeError):
        return


def leave(status: int) -> None:
    """End as Python does: wait for threads, run what was registered, flush, and skip the rest."""
    try:
        if threads := sys.modules.get("threading"):
            threads._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except MemoryError:
        status = OUT_OF_MEMORY
    except BaseException:  # a closed pipe, or whatever the program put in place of its streams
        status = status or 1
    os._exit(status)
