"""Findings -> one sentence each: what was seen, where, and what usually helps. Ordered by how many rollouts they explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posttrain.diagnosis.findings import Cell, Change

SEEN = {
    "wrong": "gave a wrong answer",
    "format": "gave no answer where the grader looks for one",
    "truncated": "were cut off at the length limit",
    "refusal": "refused",
    "wrong_language": "were in another language",
    "repetition": "ran into a loop",
    "grader_error": "got no verdict",
}
REMEDY = {
    "wrong": "train on more tasks like these",
    "format": "show the layout in a few demonstrations, or reward it",
    "truncated": "raise max_tokens, or reward brevity",
    "refusal": "add demonstrations that answer such prompts",
    "wrong_language": "add the language grader to the reward",
    "repetition": "drop looping answers from the training data and stop earlier in training",
    "grader_error": "repair the grader before trusting any number here",
}
FEWEST = 5


def advise(cells: Sequence[Cell], change: Change | None) -> list[str]:
    sentences = [_finding(cell, cells) for cell in sorted((c for c in cells if c.slice == "all"), key=lambda cell: -cell.count)]
    if change is not None and change.tasks.regressed:
        lost, kept = len(change.tasks.regressed), len(change.tasks.still_right)
        sentences.append(f"{lost} of {lost + kept} tasks that were right before are wrong now: mix earlier training data back in.")
    return sentences


def _finding(whole: Cell, cells: Sequence[Cell]) -> str:
    """Names the slice only where the code is clearly more frequent there than overall (its lower limit lies above)."""
    overall = whole.share.value or 0.0
    same = [cell for cell in cells if cell.code == whole.code and cell.slice != "all" and cell.of >= FEWEST]
    worst = max(same, key=lambda cell: cell.share.low or 0.0, default=None)
    seen = f"{whole.count} of {whole.of} answers {SEEN[whole.code]}"
    if worst is not None and worst.share.low is not None and worst.share.low > overall:
        return f"{seen}, most in {worst.slice} ({worst.count} of {worst.of}): {REMEDY[whole.code]}."
    return f"{seen}: {REMEDY[whole.code]}."
