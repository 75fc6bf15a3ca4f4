"""posttrain: declare a post-training recipe, run it, know whether it worked.

    import posttrain as pt

The names of `posttrain.api` are found here on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from posttrain import graders
    from posttrain.api import (
        Conversation,
        Evaluation,
        Message,
        Model,
        Pair,
        Passage,
        Preference,
        Reward,
        Task,
        Tasks,
        best_of_n,
        compare,
        distill,
        dpo,
        evaluate,
        grpo,
        load,
        ppo,
        reward_model,
        sft,
        tasks,
    )

__all__ = [
    "Conversation",
    "Evaluation",
    "Message",
    "Model",
    "Pair",
    "Passage",
    "Preference",
    "Reward",
    "Task",
    "Tasks",
    "best_of_n",
    "compare",
    "distill",
    "dpo",
    "evaluate",
    "graders",
    "grpo",
    "load",
    "ppo",
    "reward_model",
    "sft",
    "tasks",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'posttrain' has no attribute {name!r}")
    if name == "graders":
        return importlib.import_module("posttrain.graders")
    return getattr(importlib.import_module("posttrain.api"), name)
