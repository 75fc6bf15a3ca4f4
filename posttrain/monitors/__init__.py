"""Watches a training run: pure functions over the metrics so far and the last step's groups, each giving a Decision or None.

A monitor never changes a reward: what is watched and trained on teaches the model to hide (arXiv:2503.11926).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from posttrain.core.errors import did_you_mean
from posttrain.monitors.canaries import canaries
from posttrain.monitors.decision import Decision, Groups, History, Severity
from posttrain.monitors.samples import duplicates, repetition, same_answer, unscored
from posttrain.monitors.trends import entropy, gap, kl, length, no_signal, not_finite, reward_hacked, truncation

Monitor = Callable[..., Decision | None]

MONITORS: dict[str, Monitor] = {
    "not_finite": not_finite,
    "gap": gap,
    "unscored": unscored,
    "reward_hacked": reward_hacked,
    "kl": kl,
    "entropy": entropy,
    "length": length,
    "truncation": truncation,
    "no_signal": no_signal,
    "repetition": repetition,
    "duplicates": duplicates,
    "same_answer": same_answer,
    "canaries": canaries,
}


def watch(history: History, groups: Groups, *, settings: Mapping[str, Mapping[str, Any]] | None = None) -> list[Decision]:
    """Every monitor's decision about the last step, the gravest first. `settings` holds thresholds: {"gap": {"budget": 0.1}}.

    Pure: the same arguments give the same decisions, so a caller may repeat it on the records of a finished run.
    """
    settings = settings or {}
    for name in settings:
        if name not in MONITORS:
            raise ValueError(f"{name!r} is not a monitor. {did_you_mean(name, MONITORS)}")
    found = [monitor(history, groups, **settings.get(name, {})) for name, monitor in MONITORS.items()]
    order = ("stop", "warn", "note")
    return sorted((decision for decision in found if decision), key=lambda decision: order.index(decision.severity))


__all__ = ["MONITORS", "Decision", "Groups", "History", "Monitor", "Severity", "watch"]
