r"""Are two mathematical answers equal? math-verify says yes *and* numbers agree. Runs in a grader's process.

math-verify 0.9.0 reads and simplifies more than we could, and accepts some things that are not equal (see numeric.py). So
a yes needs both: numbers that differ are a no, numbers that cannot be compared leave a yes unconfirmed, which is no verdict.
It stops its own runaways with SIGALRM, whole seconds only; our clock is outside and kills the process instead.
"""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable
from typing import Any

MEMORY_LIMIT = 4 << 30  # bytes of address space; 10^(10^9) would take it all


def prepare() -> Callable[[dict[str, str]], dict[str, Any]]:
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    logging.disable(logging.WARNING)
    import math_verify
    import sympy

    configuration = [math_verify.LatexExtractionConfig()]

    def readings(expression: str) -> list[Any]:
        found = math_verify.parse(f"\\boxed{{{expression}}}", configuration, parsing_timeout=None, raise_on_error=True)
        return [item for item in found if isinstance(item, (sympy.Basic, sympy.MatrixBase))]

    def check(request: dict[str, str]) -> dict[str, Any]:
        from posttrain.graders import numeric

        reference, answer = request["reference"], request["answer"]
        by_numbers = numeric.equal(reference, answer)
        if by_numbers is False:
            return {"equal": False, "why": "the values differ"}
        gold, written = readings(reference), readings(answer)
        if not gold:
            return {"equal": None, "why": "the reference answer cannot be read as mathematics"}
        if not written:
            return {"equal": False, "why": "the answer is not a mathematical expression"}
        if not math_verify.verify(gold, written, timeout_seconds=None, raise_on_error=True):
            return {"equal": False, "why": "not equal to the reference"}
        if by_numbers is None:
            return {"equal": None, "why": "math-verify accepts the answer, but it could not be confirmed by numbers"}
        return {"equal": True, "why": ""}

    return check
