"""Learning rate by step: linear warm-up, then constant, or linear or cosine down to 0 at the last step."""

from __future__ import annotations

import math
from collections.abc import Callable

from posttrain.core.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Rate of optimizer step `step` (0 is the first) out of `total`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, total - config.warmup_steps))
    return config.learning_rate * SCHEDULES[config.schedule](progress)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}
