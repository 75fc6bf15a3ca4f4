"""Whether each midtrain stage can have the context it asks for, known before any model is loaded.

The lengths follow the models from stage to stage. A model whose config is not on this machine yet is looked at when it is
loaded instead, by the same rule (core/context.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from posttrain.core.config import MidtrainConfig, Recipe
from posttrain.core.context import yarn_factor
from posttrain.core.errors import UserError
from posttrain.pipeline.models import config_of


@dataclass(frozen=True)
class Reach:
    """Tokens a model can read, and those it was pre-trained for."""

    now: int
    original: int


def problems(recipe: Recipe) -> Iterator[tuple[int, str, UserError]]:
    """(stage, setting, error) of each context or sequence length that cannot be."""
    known: dict[str, Reach | None] = {"base": reach_of(recipe.model)}
    for index, stage in enumerate(recipe.stages):
        config = stage.config
        model = config.parent()
        reach = known[model] if model in known else reach_of(model)
        if isinstance(config, MidtrainConfig) and reach is not None:
            if config.context is not None:
                try:
                    yarn_factor(config.context, reach.now, reach.original)
                except UserError as error:
                    yield index, "context", error
                reach = Reach(config.context.length, reach.original)
            elif config.sequence_length > reach.now:
                yield index, "sequence_length", too_long(config.sequence_length, reach.now)
        known[stage.id] = reach


def too_long(length: int, reach: int) -> UserError:
    return UserError(
        f"sequence_length is {length}; the model can read {reach} tokens.",
        fix=f"Set context: {{length: {length}}}, or use shorter sequences.",
    )


def reach_of(model: str) -> Reach | None:
    config = config_of(model) or {}
    now = config.get("max_position_embeddings")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    original = rope.get("original_max_position_embeddings") if isinstance(rope, dict) else None
    return Reach(now, original if isinstance(original, int) else now) if isinstance(now, int) else None
