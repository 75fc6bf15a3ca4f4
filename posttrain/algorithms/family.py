"""GRPO and its relatives: each is a choice of advantage, policy loss, reduction and clip range.

`dynamic` marks those that replace groups without signal by fresh ones. A stage may override the ranges and `dynamic`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """Names in ADVANTAGES, POLICY_LOSSES and REDUCTIONS, and the ranges of the paper."""

    advantage: str
    policy_loss: str
    reduction: str
    clip_low: float = 0.2
    clip_high: float = 0.2
    dynamic: bool = False


FAMILY: dict[str, Method] = {
    # arXiv:2402.03300
    "grpo": Method("group_normalised", "clipped", "sequence_mean"),
    # arXiv:2503.20783
    "dr_grpo": Method("group_centred", "clipped", "constant"),
    # arXiv:2503.14476: clip-higher, token-level loss, dynamic sampling (its overlong punishment is the setting overlong_buffer)
    "dapo": Method("group_normalised", "clipped", "token_mean", clip_high=0.28, dynamic=True),
    # arXiv:2402.14740
    "rloo": Method("leave_one_out", "clipped", "sequence_sum"),
    # arXiv:2501.03262
    "reinforce_pp": Method("batch_normalised", "clipped", "token_mean"),
    # arXiv:2507.18071: ranges of section 5.1
    "gspo": Method("group_normalised", "sequence_clipped", "sequence_mean", clip_low=3e-4, clip_high=4e-4),
    # arXiv:2506.13585: no lower bound in the paper
    "cispo": Method("group_normalised", "weighted_likelihood", "token_mean", clip_low=1.0, clip_high=0.28),
}
