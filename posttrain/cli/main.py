"""Where a command begins and ends: arguments, signals, and what an error looks like.

Typer ends the process itself for wrong arguments (code 2). Everything a command raises arrives here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from posttrain.core.errors import EnvironmentFailed, Interrupted, PosttrainError


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given  # anywhere, so that it can be put behind a command that has just failed
    given = [argument for argument in given if argument != "--debug"]
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _interrupted)
    code = 0
    try:
        from posttrain.cli.app import app

        app(given, standalone_mode=True, prog_name="posttrain")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except PosttrainError as error:
        _trace(debug)
        _say(str(error), "interrupted" if isinstance(error, Interrupted) else "error")
        code = error.exit_code
    except BrokenPipeError:
        code = 0
    except MemoryError:
        _trace(debug)
        _say("the memory is full. Lower micro_batch_tokens, or choose a smaller model; finished stages are kept.", "error")
        code = EnvironmentFailed.exit_code
    except Exception as error:  # the last border: a bug is said in one line, and in full with --debug
        if debug:
            raise
        _say(
            f"{error.__class__.__name__}: {error}\nThis is a bug in posttrain. Run it again with --debug for the traceback.", "bug"
        )
        code = 1
    _leave(code)


def _interrupted(number: int, _: FrameType | None) -> None:
    """Outside of runs, which set their own handler, there is nothing to save."""
    raise Interrupted("stopped.", signal=number)


def _trace(debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()


def _say(text: str, word: str) -> None:
    from posttrain.cli.show import harmless

    colour = "\x1b[33m" if word == "interrupted" else "\x1b[31m"
    start, end = (colour, "\x1b[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
    with contextlib.suppress(BrokenPipeError):
        print(f"{start}{word}:{end} {harmless(text)}", file=sys.stderr, flush=True)


def _leave(code: int) -> NoReturn:
    """Exit, also where whoever read our output is gone: Python would print an error while flushing."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
