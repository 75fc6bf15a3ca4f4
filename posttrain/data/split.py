"""Rows held out of training, chosen by their number, so that a resumed run holds out the same."""

from __future__ import annotations

import random
from array import array

from posttrain.core.errors import UserError
from posttrain.core.seeds import derive


def hold_out(total: int, count: int, *, seed: int) -> tuple[array[int], array[int]]:
    """Numbers of the rows to train on and of the rows held out, each in ascending order.

    Duplicates must be gone before, or a row may be on both sides.
    """
    if count >= total:
        raise UserError(
            f"validation is {count}, but there are only {total} rows; some must be left to train on.",
            fix="Lower validation or add data.",
        )
    held = set(random.Random(derive(seed, "hold_out")).sample(range(total), count))
    return array("q", (row for row in range(total) if row not in held)), array("q", sorted(held))
