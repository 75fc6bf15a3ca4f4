"""What a finished reward model is worth: measured on pairs it never saw, and the scale of its scores.

Answers of one prompt are not independent, so the interval of the accuracy resamples prompts. Members of an ensemble are
combined by their mean here.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from posttrain.algorithms.pair_metrics import (
    brier,
    calibration_error,
    centred,
    correlation,
    length_balanced,
    ordered,
    reliability,
)
from posttrain.core.statistics import interval
from posttrain.models.reward_model import RewardModel
from posttrain.training.reward_model import Compared


def scale(reward: RewardModel, elements: Sequence[Compared], budget: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each member's rewards."""
    rewards = reward.score([row for element in elements for row in element.rows], budget=budget).double()
    return rewards.mean(0).tolist(), rewards.std(0, unbiased=False).tolist()


def held_out_report(reward: RewardModel, elements: Sequence[Compared], budget: int) -> dict[str, Any]:
    """Accuracy with its interval, calibration, the pull of length, and how members differ. Empty without held-out pairs."""
    if not elements:
        return {}
    rewards = [reward.score(element.rows, budget=budget) for element in elements]
    means = [each.mean(1).tolist() for each in rewards]
    lengths = [[float(sum(mask)) for mask in element.masks] for element in elements]
    differences, labels, longer, right = [], [], [], []
    by_prompt: dict[str, list[bool]] = {}
    for number, (element, mean, length) in enumerate(zip(elements, means, lengths, strict=True)):
        for pair in element.pairs:
            verdict = ordered(mean[pair.better] - mean[pair.worse], pair.probability)
            if verdict is None:
                continue
            differences.append(mean[pair.better] - mean[pair.worse])
            labels.append(pair.probability)
            longer.append(int(length[pair.better] - length[pair.worse]))
            right.append(verdict)
            by_prompt.setdefault(str(number), []).append(verdict)
    bins = reliability(differences, labels)
    return {
        "accuracy": interval(by_prompt).to_json(),
        "pairs": len(right),
        "brier": brier(differences, labels) if right else None,
        "calibration_error": calibration_error(bins) if right else None,
        "reliability": bins,
        "length": {
            "correlation": correlation([r for mean in means for r in mean], [n for length in lengths for n in length]),
            "correlation_within_prompt": correlation(centred(means), centred(lengths)),
            "accuracy_balanced": length_balanced(right, longer),
            "better_is_longer": fmean(d > 0 for d in longer) if longer else None,
        },
        **({"ensemble": disagreement(elements, rewards)} if reward.size > 1 else {}),
    }


def disagreement(elements: Sequence[Compared], rewards: Sequence[Tensor]) -> dict[str, Any]:
    """`members`: each one's accuracy. `pairs`: share that they order differently. `std`: mean standard deviation over members
    of an answer's reward, each member's rewards brought to standard deviation 1 first."""
    right: list[list[bool]] = []
    for element, each in zip(elements, rewards, strict=True):
        for pair in element.pairs:
            if pair.probability != 0.5:
                right.append([bool(ordered(float(d), pair.probability)) for d in each[pair.better] - each[pair.worse]])
    every = torch.cat(list(rewards)).double()
    spread = every.std(0, unbiased=False).clamp(min=1e-12)
    return {
        "members": [fmean(column) for column in zip(*right, strict=True)],
        "pairs": fmean(len(set(row)) > 1 for row in right) if right else None,
        "std": float(((every - every.mean(0)) / spread).std(1, unbiased=False).mean()),
    }
