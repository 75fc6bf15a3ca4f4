"""Role "worker": holds what a model wrote and answers questions about it. It knows no test and no expected value.

First message out: {"loaded": null} or why it could not be loaded. Then one answer for each question, with the question's number.
A plain value goes out as it is; where the tester allows objects, anything else stays here and a number goes out for it.
Everything here may be overwritten by the program itself: its answers are claims, and the tester treats them so.
"""

from __future__ import annotations

import builtins
import importlib
import operator
import os
import sys

from posttrain.sandbox.inside.program import leave, write_files
from posttrain.sandbox.inside.values import Channel, Gone, Unsupported, form, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

QUESTIONS, ANSWERS = 5, 6
SOLUTION = "solution"

BITS_AND_ITEMS = "and_ or_ xor matmul getitem setitem delitem contains".split()
OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda called, *given, **named: called(*given, **named),
    "import": importlib.import_module,
    "isinstance": isinstance,
    "enter": lambda context: context.__enter__(),
    "exit": lambda context: context.__exit__(None, None, None),
    **{name: getattr(builtins, name) for name in "getattr setattr len iter next str repr bool int float abs round hash".split()},
    **{
        name: getattr(operator, name)
        for name in "eq ne lt le gt ge add sub mul truediv floordiv mod pow neg".split() + BITS_AND_ITEMS
    },
}


def worker(payload: Mapping[str, Any], ready: Callable[[], None]) -> None:
    write_files(payload.get("files", {}))
    channel = Channel(QUESTIONS, ANSWERS)
    ready()
    scope: dict[str, Any] = {}
    if payload.get("source") is not None:
        problem = load(payload["source"], scope)
    else:
        sys.path.insert(0, os.getcwd())
        problem = None
    channel.write({"loaded": problem})
    held: list[Any] = []
    lend = (lambda item: lent_form(item, held)) if payload.get("objects") else None
    try:
        while True:
            channel.write(answer(channel.read(), scope, held, lend))
    except Gone:
        leave(0)


def load(source: str, scope: dict[str, Any]) -> str | None:
    """Run a program as the module `solution`; what went wrong, in a line."""
    module = type(sys)(SOLUTION)
    sys.modules[SOLUTION] = module
    try:
        exec(compile(source, "solution.py", "exec"), vars(module))
    except BaseException as error:  # also SystemExit: a solution that ends the process while it is loaded is none
        return described(error)
    scope.update(vars(module))
    return None


def answer(question: Mapping[str, Any], scope: Mapping[str, Any], held: list[Any], lend: Any) -> dict[str, Any]:
    number = question["n"]

    def lent(given: list[Any]) -> Any:
        if given[0] == "h":
            return held[given[1]]
        if given[0] == "name":
            return scope[given[1]]
        raise Unsupported(f"no value has the tag {given[0]!r}")

    try:
        given = value(question["args"], lent)
        named = value(question["named"], lent)
        result = OPERATIONS[question["op"]](*given, **named)
        return {"n": number, "value": form(result, lend) if lend else form(result)}
    except Unsupported as problem:
        return {"n": number, "unsupported": str(problem)}
    except BaseException as error:  # whatever it raises is its answer
        return {"n": number, "raised": raised_form(error)}


def lent_form(item: Any, held: list[Any]) -> list[Any]:
    """An object that stays here: its number, what kind of thing it is, and its name."""
    held.append(item)
    kind = "class" if isinstance(item, type) else "object"
    if isinstance(item, type) and issubclass(item, BaseException):
        return ["h", len(held) - 1, "exception", item.__name__, ancestors(item)]
    return ["h", len(held) - 1, kind, getattr(item, "__name__", type(item).__name__), []]


def ancestors(kind: type) -> list[str]:
    """`module.name` of a class and those above it, built-in ones without the module."""
    return [each.__name__ if each.__module__ == "builtins" else f"{each.__module__}.{each.__qualname__}" for each in kind.__mro__]


def raised_form(error: BaseException) -> dict[str, Any]:
    return {"mro": ancestors(type(error)), "text": described(error)}


def described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except BaseException:  # its own __str__ fails
        return type(error).__name__
