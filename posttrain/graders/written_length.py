"""A price on length: 1 up to `soft` written tokens, falling in a straight line to 0 at `hard`. Passed below `hard`.

The shape of DAPO's soft overlong punishment (arXiv:2503.14476), with 1 … 0 in place of 0 … -1. It pays for brevity whether
or not the answer is right; weigh it low beside a verifier.
"""

from __future__ import annotations

from posttrain.core.config import LengthGrader
from posttrain.core.types import Grade


def grade(config: LengthGrader, written: int | None) -> Grade:
    if written is None:
        return Grade.unscored("length counts a rollout's tokens, and plain text has none")
    score = min(1.0, max(0.0, (config.hard - written) / (config.hard - config.soft)))
    return Grade(score, written < config.hard, explanation="" if score == 1 else f"{written} tokens, more than {config.soft}")
