"""What can go wrong, by whose turn it is to act. The command line turns each into its exit code."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

SYSTEM: dict[int, str] = {
    errno.EACCES: "Check who owns it and its permissions.",
    errno.EPERM: "Check who owns it and its permissions.",
    errno.EROFS: "Name a place that can be written.",
    errno.ENOSPC: "Free some space and run the same command again.",
    errno.EDQUOT: "Free some space and run the same command again.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
}
"""What to do about an error of the operating system, by its number."""


class PosttrainError(Exception):
    """Base of the errors we raise on purpose. `place` says where (file:line), `fix` what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, place: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.message, self.place, self.fix = message, place, fix

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.message}{' ' + self.fix if self.fix else ''}"


class UserError(PosttrainError):
    """The input is wrong: a recipe, a setting, a data file, a model that is not there."""

    exit_code = 2


class PromiseBroken(PosttrainError):
    """The run must not go on: a non-finite loss, sampler and trainer apart, a gate that failed."""

    exit_code = 3


class EnvironmentFailed(PosttrainError):
    """The world around us failed: a full disk, a grader's process, an endpoint."""

    exit_code = 4


class SandboxUnavailable(EnvironmentFailed):
    """There is no way here to run model-written code that passes its canaries. It is then not run at all."""


class SandboxFailed(EnvironmentFailed):
    """The sandbox itself broke before the program began: nothing is known about the program."""


class Unanswered(EnvironmentFailed):
    """A model behind an endpoint gave no answer to this request, after every try that was worth making."""


class Interrupted(PosttrainError):
    """Ctrl-C or SIGTERM arrived, and a checkpoint was written. `signal` is 2 or 15."""

    def __init__(self, message: str, *, signal: int, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.exit_code = 128 + signal


def refused(error: OSError) -> EnvironmentFailed:
    """What the operating system would not do, in our words: which file, why, and what to do."""
    files = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    fix = SYSTEM.get(error.errno or 0, "Check the path." if files else "Run it again with --debug for the traceback.")
    return EnvironmentFailed(f"{error.strerror or str(error) or error.__class__.__name__}.", place=files, fix=fix)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'Did you mean X?' for the nearest known name, else the list of what is allowed."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
