"""Which context lengths a model can be extended to: the rule that `check` and the loading of a model share."""

from __future__ import annotations

from posttrain.core.config.midtrain import ContextConfig
from posttrain.core.errors import UserError

FARTHEST = 32.0
"""The largest scale that YaRN's paper trained (arXiv:2309.00071: Llama 2 from 4k to 128k)."""


def yarn_factor(asked: ContextConfig, now: int, original: int) -> float:
    """The scale for the length asked for. `now` is what the model can read, `original` what it was pre-trained for. Raises
    UserError for a length that is no extension, that the factor does not reach, or that nobody has shown to work."""
    if asked.length <= now:
        raise UserError(
            f"context.length is {asked.length}, and the model can read {now} tokens already.",
            fix="Ask for more, or leave context out.",
        )
    needed = asked.length / original
    factor = needed if asked.factor is None else asked.factor
    if needed > factor:
        raise UserError(
            f"context.length is {asked.length}, beyond what a factor of {factor:g} reaches: "
            f"{factor:g} x {original} = {int(factor * original)} tokens.",
            fix=f"Raise context.factor to {needed:g}, or lower the length.",
        )
    if asked.factor is None and needed > FARTHEST:
        raise UserError(
            f"context.length is {asked.length}, {needed:.4g} times the {original} tokens the model was made for; YaRN has been "
            f"shown up to {FARTHEST:g} times.",
            fix=f"Ask for {int(FARTHEST * original)} or less, or set context.factor to try.",
        )
    return factor
