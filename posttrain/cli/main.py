"""Where a command begins and ends: arguments, signals, and what an error looks like.

Typer ends the process itself for wrong arguments (code 2). Everything a command raises arrives here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn, TextIO, cast

from posttrain.core.errors import EnvironmentFailed, Interrupted, PosttrainError, refused


class Patient:
    """A stream whose reader may go away (`| head`): what is written afterwards goes nowhere, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        """Point the descriptor elsewhere: what is still in the buffer would raise again when Python ends."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def patient(stream: TextIO) -> TextIO:
    return cast(TextIO, Patient(stream))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given  # anywhere, so that it can be put behind a command that has just failed
    given = [argument for argument in given if argument != "--debug"]
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _interrupted)
    code = 0
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = patient(sys.stdout), patient(sys.stderr)
    try:
        from posttrain.cli.app import app

        app(given, standalone_mode=True, prog_name="posttrain")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except PosttrainError as error:
        _trace(debug)
        _say(str(error), "interrupted" if isinstance(error, Interrupted) else "error")
        code = error.exit_code
    except OSError as error:  # no permission, a read-only disk, a file where a folder should be: not a bug
        _trace(debug)
        _say(str(refused(error)), "error")
        code = EnvironmentFailed.exit_code
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
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before
    sys.exit(code)


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
    print(f"{start}{word}:{end} {harmless(text)}", file=sys.stderr, flush=True)
