"""A longer context by YaRN: the rotary frequencies rescaled, each by how often it turns over the original length.

YaRN (arXiv:2309.00071), section 3.2 ("NTK-by-parts") and equation 22. With scale s = new length / original length,
dimensions that turn more than beta_fast times over the original length keep their frequency, those that turn less than
beta_slow times get frequency / s, a linear ramp lies between; and queries and keys are each multiplied by 0.1 ln(s) + 1, so
that attention over more tokens stays as sharp. transformers computes this from `config.rope_parameters` and puts the factor
into its cos and sin, which every attention of ours is given: nothing else has to know.

`original` is the length of pre-training and stays, however many stages extend the model, so stages do not compound. The model's
directory carries all of it in config.json, and transformers, vLLM and our engine read it there.
Assumes Llama's rotary layout. Fails to make a model good at its new length without training on text that long.
"""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from posttrain.core.config.midtrain import ContextConfig
from posttrain.core.context import yarn_factor
from posttrain.core.errors import UserError


def context_of(config: PretrainedConfig) -> int:
    """Tokens the model can read."""
    return int(config.get_text_config().max_position_embeddings)


def parameters(config: PretrainedConfig, asked: ContextConfig) -> dict[str, Any]:
    """The `rope_parameters` of the longer context. Raises UserError for a length that cannot be reached."""
    now, rope = context_of(config), dict(getattr(config, "rope_parameters", None) or {})
    kind = rope.get("rope_type")
    if kind not in ("default", "yarn"):
        raise UserError(
            f"the model's positions are of rope type {kind or 'none'!r}, which YaRN cannot extend.",
            fix="Use a model with default or YaRN rotary positions.",
        )
    original = int(rope.get("original_max_position_embeddings") or now)
    factor = yarn_factor(asked, now, original)
    yarn = {
        **{name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope},
        "rope_type": asked.type,
        "factor": float(factor),
        "original_max_position_embeddings": original,
        "beta_fast": asked.beta_fast,
        "beta_slow": asked.beta_slow,
    }
    return yarn if asked.attention_factor is None else {**yarn, "attention_factor": asked.attention_factor}


def extend(model: PreTrainedModel, asked: ContextConfig) -> None:
    """Give a loaded model the longer context, in its config and in its rotary embedding. Raises UserError."""
    found = parameters(model.config, asked)
    decoder: Any = model.get_decoder()
    if not hasattr(decoder, "rotary_emb"):
        raise UserError(
            f"a model of type {model.config.model_type!r} keeps its rotary positions where we cannot reach them.",
            fix="Use a Llama-shaped model.",
        )
    model.config.rope_parameters = found
    model.config.max_position_embeddings = asked.length
    decoder.rotary_emb = type(decoder.rotary_emb)(config=model.config).to(model.device)
