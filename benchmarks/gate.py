"""Nothing is timed before it is the same work: what each program was given, its precision, and its first step.

The first step's loss and gradient norm must lie within 1 % of a plain fp32 computation of the same model on the same rows;
ids, masks and order must be equal; products and kept weights must be of one precision class. The long gate trains 100 steps:
the curves of two libraries may differ by no more than those of two runs that must agree (A/A), or by 2e-3, the median
difference that TRL's authors measured between two forms of one loss in bf16 (TRL pull request 5575).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

TOLERANCE = 0.01
ROUND_TOLERANCE = 0.05
CLEAR = 0.3
"""Nats by which fp32's likeliest token must lead for bf16 to have to agree."""
NOISE_FLOOR = 2e-3
CLASS = {"compute": "bfloat16", "masters": "float32"}
"""Products in bf16, trained weights and their optimizer state in fp32."""


def first_step(arm: str, found: Mapping[str, Any], reference: Mapping[str, Any], expected: str) -> list[str]:
    """What is wrong with a program's first step; nothing if it may be timed. `expected` is the digest of the case itself."""
    wrong = []
    for name, given in ((arm, found), ("the reference", reference)):
        if given["digest"] != expected:
            wrong.append(f"{name} was given other ids, masks or another order than the case has")
    wrong += other_precision(arm, found)
    for name in ("loss", "grad_norm"):
        wrong += too_far(arm, name, found, reference, TOLERANCE)
    return wrong


def first_tokens(arm: str, found: Mapping[str, Any], reference: Mapping[str, Any], expected: str) -> list[str]:
    """For programs that only write: the likeliest first token after each prompt is fp32's, wherever fp32 is clear about it."""
    wrong = [f"{arm} was given other prompts than the case has"] if found["digest"] != expected else []
    if found["precision"]["compute"] != CLASS["compute"]:
        wrong.append(f"{arm} computes in {found['precision']['compute']}, not {CLASS['compute']}: another precision class")
    rows = zip(found["first_tokens"], reference["first_tokens"], reference["leads"], strict=True)
    differ = [number for number, (own, right, lead) in enumerate(rows) if own != right and lead > CLEAR]
    if differ:
        wrong.append(
            f"{arm}: the likeliest first token differs from fp32's after {len(differ)} prompts, the first is number {differ[0]}"
        )
    return wrong


def first_round(arm: str, found: Mapping[str, Any], reference: Mapping[str, Any], expected: str) -> list[str]:
    """For rounds of sampling and training: the prompts, the precision, and the gradient norm on what the program itself wrote.

    There is no loss to compare: with advantages that sum to 0 it is near 0. The norm may be further off than in SFT, because
    advantages of both signs cancel, and because ours weighs tokens by the trainer's over the sampler's probability.
    """
    wrong = [f"{arm} was given other prompts than the case has"] if found["digest"] != expected else []
    wrong += other_precision(arm, found)
    return wrong + too_far(arm, "grad_norm", found, reference, ROUND_TOLERANCE)


def other_precision(arm: str, found: Mapping[str, Any]) -> list[str]:
    kept = found["precision"]
    return [
        f"{arm} keeps {key} in {kept[key]}, not {wanted}: another precision class"
        for key, wanted in CLASS.items()
        if kept[key] != wanted
    ]


def too_far(arm: str, name: str, found: Mapping[str, Any], reference: Mapping[str, Any], tolerance: float) -> list[str]:
    known = reference[name]
    apart = abs(found[name] - known) / abs(known) if known else math.inf
    if apart <= tolerance:  # never true of what is not a number
        return []
    return [f"{arm}: {name} of the first step is {found[name]:.5f}, the fp32 reference's {reference[name]:.5f} ({apart:.1%} apart)"]


GATES = {"sft": first_step, "dpo": first_step, "generation": first_tokens, "rounds": first_round}
"""The check of each kind of case."""


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
