"""One attention, registered with transformers, that lets a `plan` decide who sees whom.

Every call of a model carries `plan`, a required keyword: a stray call without one fails at once instead of attending
wrongly. What an architecture asks for beyond plain causal attention (sliding windows, soft caps, sinks) is refused,
never ignored.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig

from posttrain.core.errors import UserError

NAME = "posttrain"
UNSUPPORTED = ("sliding_window", "softcap", "s_aux")


class Plan(Protocol):
    def attend(self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scaling: float) -> Tensor:
        """Attention output, shape (B, T, H, D)."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    plan: Plan,
    scaling: float,
    **asked: Any,
) -> tuple[Tensor, None]:
    for name in UNSUPPORTED:
        if asked.get(name) is not None:
            raise UserError(
                f"this model's attention asks for {name}, which is not supported", fix="Use a model with full attention."
            )
    return plan.attend(module.layer_idx, query, key, value, scaling), None  # type: ignore[arg-type]


def refuse_unsupported(config: PretrainedConfig, name: str) -> None:
    """Refuse at load what `attention` would refuse at the first step, and what it could not notice."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if kinds != {"full_attention"} or (getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)):
        raise UserError(
            f"{name} uses {', '.join(sorted(kinds))} layers", fix="Only models with full attention in every layer are supported."
        )
    if rope == "dynamic":
        raise UserError(
            f"{name} uses dynamic rotary scaling, which depends on the batch",
            fix="Use a model with default, linear or YaRN scaling.",
        )


AttentionInterface.register(NAME, attention)
