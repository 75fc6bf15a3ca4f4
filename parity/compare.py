"""Runs the comparisons and the controls on their cases and prints the largest differences in a table."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from parity.cases import SEEDS, Outcome
from parity.comparisons import NOT_COMPARED, Comparison, comparisons, controls, uncompared

TOLERANCE = 1e-5
WIDTH = 44


@dataclass(frozen=True)
class Result:
    """The largest differences over the cases: of losses, and of gradients as a share of the largest gradient."""

    cases: int
    loss: float
    gradient: float

    @property
    def holds(self) -> bool:
        """False also where a difference is not a number."""
        return self.cases > 0 and self.loss <= TOLERANCE and self.gradient <= TOLERANCE


def compared(comparison: Comparison, seeds: Sequence[int] = SEEDS) -> Result:
    found = []
    for seed in seeds:
        case = comparison.case(seed)
        found.append(differences(comparison.ours(case), comparison.theirs(case)))
    return Result(len(found), largest([loss for loss, _ in found]), largest([gradient for _, gradient in found]))


def differences(ours: Outcome, theirs: Outcome) -> tuple[float, float]:
    """A gradient of zero everywhere has nothing to be compared with, and is a difference."""
    loss = abs(ours.loss - theirs.loss) / max(1.0, abs(theirs.loss))
    scale = float(theirs.gradient.abs().max())
    return loss, float((ours.gradient - theirs.gradient).abs().max()) / scale if scale else math.inf


def largest(values: Sequence[float]) -> float:
    return math.nan if any(math.isnan(value) for value in values) else max(values, default=math.nan)


def line(name: str, result: Result, verdict: str) -> str:
    return f"{name:<{WIDTH}} {result.cases:>5} {result.loss:>9.1e} {result.gradient:>9.1e}  {verdict}"


def report(of: Sequence[Comparison], wrong: Sequence[Comparison], seeds: Sequence[int] = SEEDS) -> bool:
    """Prints the tables. True if every comparison holds and every control does not."""
    numbers = {note: number for number, note in enumerate(dict.fromkeys(note for each in of for note in each.notes), 1)}
    good = True
    print(f"{'method':<{WIDTH}} {'cases':>5} {'loss':>9} {'gradient':>9}")
    for comparison in of:
        result = compared(comparison, seeds)
        good &= result.holds
        marks = "".join(f" [{number}]" for number in sorted(numbers[note] for note in comparison.notes))
        print(line(comparison.name, result, ("ok" if result.holds else "DIFFERS") + marks), flush=True)
    print("\nWrong on purpose, to be found:")
    for comparison in wrong:
        result = compared(comparison, seeds)
        good &= not result.holds
        print(line(comparison.name, result, "NOT FOUND" if result.holds else "found"), flush=True)
    print("\nDifferences on purpose, and how they are undone here (docs/parity.md):")
    for note, number in numbers.items():
        print(f"  [{number}] {note}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m parity", description=__doc__)
    parser.add_argument("--only", default="", help="comparisons and controls whose names contain this")
    only = parser.parse_args().only
    right = comparisons()
    of = [each for each in right if only in each.name]
    wrong = [each for each in controls(right) if only in each.name]
    if not of + wrong:
        print(f"no comparison's name contains {only!r}", file=sys.stderr)
        return 2
    from parity.theirs import trl

    print(f"posttrain beside TRL {trl().version}, fp32: largest differences, at most {TOLERANCE:.0e}\n")
    good = report(of, wrong)
    print("\nNot compared:")
    for method, reason in NOT_COMPARED.items():
        print(f"  {method}: {reason}")
    if missing := uncompared():
        good = False
        print(f"\nNeither compared nor said why not: {', '.join(sorted(missing))}")
    print("\nAll as it must be." if good else "\nNOT as it must be.")
    return 0 if good else 1
