"""Nothing is timed before it is the same work: what each program was given, its precision, and its first step.

The first step's loss and gradient norm must lie within 1 % of a plain fp32 computation of the same model on the same rows;
ids, masks and order must be equal; products and kept weights must be of one precision class. The long gate trains 100 steps:
the curves of two libraries may differ by no more than those of two runs that must agree (A/A), or by 2e-3, the median
difference that TRL's authors measured between two forms of one loss in bf16 (TRL pull request 5575).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

TOLERANCE = 0.01
NOISE_FLOOR = 2e-3
CLASS = {"compute": "bfloat16", "masters": "float32"}
"""Products in bf16, trained weights and their optimizer state in fp32."""


def first_step(arm: str, found: Mapping[str, Any], reference: Mapping[str, Any], expected: str) -> list[str]:
    """What is wrong with a program's first step; nothing if it may be timed. `expected` is the digest of the case itself."""
    wrong = []
    for name, given in ((arm, found), ("the reference", reference)):
        if given["digest"] != expected:
            wrong.append(f"{name} was given other ids, masks or another order than the case has")
    for key, wanted in CLASS.items():
        if (has := found["precision"][key]) != wanted:
            wrong.append(f"{arm} keeps {key} in {has}, not {wanted}: another precision class")
    for name in ("loss", "grad_norm"):
        apart = abs(found[name] / reference[name] - 1)
        if not apart <= TOLERANCE:
            values = f"{found[name]:.5f}, the fp32 reference's {reference[name]:.5f} ({apart:.1%} apart)"
            wrong.append(f"{arm}: {name} of the first step is {values}")
    return wrong


def apart(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """The median and the largest difference between two curves."""
    differences = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return {"median": statistics.median(differences), "largest": max(differences)}


def curves(ours: Sequence[float], again: Sequence[float], peer: Sequence[float], peer_again: Sequence[float]) -> dict[str, Any]:
    """Whether ours and the peer's curve are as near as two of ours, or two of theirs, are to each other."""
    noise = max(apart(ours, again)["median"], apart(peer, peer_again)["median"], NOISE_FLOOR)
    between = apart(ours, peer)
    return {
        "ours": apart(ours, again),
        "peer": apart(peer, peer_again),
        "between": between,
        "allowed": noise,
        "passed": between["median"] <= noise,
        "steps": len(ours),
    }
