"""Role "tester": runs trusted tests against functions that live in the worker, and writes the verdict.

Three kinds of test: calls with their expected results, code that defines `check(candidate)` (HumanEval's form), and code that is a
series of asserts (MBPP's form). The verdict goes out through a descriptor that only this process has. A test that breaks before
it has asked anything is itself broken, which is nobody's failure: the verdict then says `broken` and gives no score.
"""

from __future__ import annotations

import json
import math
import os

from posttrain.sandbox.inside.remote import Link, Named
from posttrain.sandbox.inside.values import Channel, Gone, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Test = dict[str, Any]  # name, passed, why

ANSWERS, QUESTIONS, VERDICT = 5, 6, 7
WHY = 300


def tester(payload: Mapping[str, Any], ready: Callable[[], None]) -> None:
    link = Link(Channel(ANSWERS, QUESTIONS), objects=False)
    ready()
    give(verdict(payload, link))


def give(found: Mapping[str, Any]) -> None:
    """Write the verdict and end at once: nothing that a test registered runs after it."""
    line = json.dumps(found).encode()
    while line:
        line = line[os.write(VERDICT, line) :]
    os._exit(0)


def verdict(payload: Mapping[str, Any], link: Link) -> dict[str, Any]:
    try:
        problem = link.loaded()
    except Gone as gone:
        problem = str(gone)
    if problem is not None:
        return {"tests": [], "loaded": problem[:WHY]}
    functions = {name: Named(link, name) for name in payload["functions"]}
    if "calls" in payload:
        tolerance = float(payload.get("tolerance", 0.0))
        return {"tests": [called(link, functions, at, each, tolerance) for at, each in enumerate(payload["calls"])]}
    return checked(link, functions, payload)


def called(link: Link, functions: Mapping[str, Named], at: int, call: Mapping[str, Any], tolerance: float) -> Test:
    """One call and what it must give: `expected`, or an exception's name in `raises`."""
    name = call.get("function") or next(iter(functions))
    label = str(call.get("name", f"{name}#{at + 1}"))
    try:
        result = functions[name](*call.get("args", ()), **call.get("kwargs", {}))
    except (Unsupported, Gone) as problem:
        return {"name": label, "passed": False, "why": str(problem)[:WHY]}
    except Exception as error:
        wanted = call.get("raises")
        right = wanted is not None and any(each.__name__ == wanted for each in type(error).__mro__)
        return {"name": label, "passed": right, "why": "" if right else described(error)}
    if "raises" in call:
        return {"name": label, "passed": False, "why": f"gave a result; expected {call['raises']}"}
    right = same(result, call["expected"], tolerance)
    return {"name": label, "passed": right, "why": "" if right else f"gave {shortened(result)}"}


def same(found: Any, expected: Any, tolerance: float) -> bool:
    """Equal, where JSON has no tuple and no set: a tuple is as good as a list. True is not 1. Numbers within the tolerance."""
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(same(a, b, tolerance) for a, b in zip(found, expected, strict=True))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key], tolerance) for key in expected)
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, int | float) and isinstance(expected, int | float):
        return found == expected or (tolerance > 0 and math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance))
    return type(found) is type(expected) and bool(found == expected)


def checked(link: Link, functions: Mapping[str, Named], payload: Mapping[str, Any]) -> dict[str, Any]:
    """Test code, with the functions under their names. `prompt` is what the model was given: helpers that tests may use."""
    scope: dict[str, Any] = {"__name__": "tests"}
    loaded = link.asked
    try:
        exec(compile(payload.get("prompt", ""), "prompt.py", "exec"), scope)
        scope.update(functions)
        exec(compile(payload["check"], "tests.py", "exec"), scope)
        if callable(scope.get("check")):
            scope["check"](next(iter(functions.values())))
    except BaseException as error:  # trusted tests fail by raising, and a program's answers can make them raise anything
        if link.asked == loaded:
            return {"tests": [], "broken": described(error)}
        return {"tests": [{"name": "check", "passed": False, "why": described(error)}]}
    if link.asked == loaded:
        return {"tests": [], "broken": "the tests called none of the functions"}
    return {"tests": [{"name": "check", "passed": True, "why": ""}]}


def described(error: BaseException) -> str:
    trace, line = error.__traceback__, None
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == "tests.py" else line
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}{f' (tests, line {line})' if line else ''}"[:WHY]


def shortened(result: Any) -> str:
    try:
        return repr(result)[:WHY]
    except ValueError:  # a number with more digits than Python writes
        return f"a very long {type(result).__name__}"
