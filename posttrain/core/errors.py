"""What can go wrong, by whose turn it is to act. The command line turns each into its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


class Unanswered(EnvironmentFailed):
    """A model behind an endpoint gave no answer to this request, after every try that was worth making."""


class Interrupted(PosttrainError):
    """Ctrl-C or SIGTERM arrived, and a checkpoint was written. `signal` is 2 or 15."""

    def __init__(self, message: str, *, signal: int, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.exit_code = 128 + signal


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'Did you mean X?' for the nearest known name, else the list of what is allowed."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
