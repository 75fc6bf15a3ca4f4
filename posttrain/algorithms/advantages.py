"""How much better than expected each rollout was.  Letters: T tasks, G rollouts of one task.

An unscored rollout (scored = False) gets advantage 0 and takes no part in any mean. A task with fewer than two scored
rollouts, or whose rewards are all equal, carries no signal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

EPSILON = 1e-6


def group_centred(rewards_TG: Tensor, scored_TG: Tensor, *, divide_by_std: bool = False) -> Tensor:
    """Reward minus the task's mean.

    GRPO (arXiv:2402.03300, section 4.1.2) divides by the group's standard deviation, which weighs easy and hard tasks
    more than middling ones; Dr. GRPO (arXiv:2503.20783, section 3.1) keeps the difference alone.
    """
    weight = scored_TG.to(rewards_TG.dtype)
    count = weight.sum(-1, keepdim=True)
    rewards = torch.where(scored_TG, rewards_TG, torch.zeros_like(rewards_TG))
    centred = (rewards - rewards.sum(-1, keepdim=True) / count.clamp(min=1)) * weight
    if divide_by_std:
        variance = centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
        centred = centred / (variance.sqrt() + EPSILON)
    return torch.where(count > 1, centred, torch.zeros_like(centred))


def leave_one_out(rewards_TG: Tensor, scored_TG: Tensor) -> Tensor:
    """RLOO (arXiv:2402.14740, equation 8): reward minus the mean of the task's other rollouts. Unbiased, no division by a
    spread. Equals the centred reward times n / (n - 1)."""
    count = scored_TG.sum(-1, keepdim=True).to(rewards_TG.dtype)
    return group_centred(rewards_TG, scored_TG) * count / (count - 1).clamp(min=1)


def batch_normalised(rewards_TG: Tensor, scored_TG: Tensor) -> Tensor:
    """REINFORCE++ with a group baseline (arXiv:2501.03262, section 3): centre in the group, then divide by the standard
    deviation over the whole batch, so that no task is weighed by its own spread. Fails when all groups are flat."""
    centred = group_centred(rewards_TG, scored_TG)
    count = scored_TG.sum()
    spread = (centred.square().sum() / (count - 1).clamp(min=1)).sqrt()
    return centred / (spread + EPSILON)


Advantage = Callable[[Tensor, Tensor], Tensor]

ADVANTAGES: dict[str, Advantage] = {
    "group_normalised": partial(group_centred, divide_by_std=True),
    "group_centred": group_centred,
    "leave_one_out": leave_one_out,
    "batch_normalised": batch_normalised,
}
