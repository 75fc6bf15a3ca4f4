"""What each trained token counts in the loss, over the whole batch, before any model runs.

Losses are sums of weight · token loss. Since the weights are fixed for the global batch, packing, accumulation, minibatches
and sharding cannot change the result. Each function takes the number of trained tokens of every row and returns one weight
per row, which all its tokens share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def token_mean(lengths: Sequence[int], longest: int) -> list[float]:
    """Every token counts the same (DAPO, arXiv:2503.14476, section 3.3; also the loss of SFT)."""
    total = sum(lengths)
    return [1 / total if total else 0.0] * len(lengths)


def sequence_mean(lengths: Sequence[int], longest: int) -> list[float]:
    """Every row counts the same, so tokens of long rows count less (GRPO, arXiv:2402.03300, equation 3)."""
    rows = sum(1 for n in lengths if n)
    return [1 / (rows * n) if n else 0.0 for n in lengths]


def sequence_sum(lengths: Sequence[int], longest: int) -> list[float]:
    """Every row is one action whose log-probability is the sum over its tokens (RLOO, arXiv:2402.14740, section 3.2), so long
    rows move the policy more."""
    rows = sum(1 for n in lengths if n)
    return [1 / rows if rows else 0.0] * len(lengths)


def constant(lengths: Sequence[int], longest: int) -> list[float]:
    """Divide by the longest allowed length, whatever was written: no bias by length (Dr. GRPO, arXiv:2503.20783, section 3.2)."""
    rows = sum(1 for n in lengths if n)
    return [1 / (rows * longest) if rows else 0.0] * len(lengths)


Reduction = Callable[[Sequence[int], int], list[float]]

REDUCTIONS: dict[str, Reduction] = {
    "token_mean": token_mean,
    "sequence_mean": sequence_mean,
    "sequence_sum": sequence_sum,
    "constant": constant,
}
