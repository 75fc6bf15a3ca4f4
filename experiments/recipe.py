"""The experiment's recipe: one cold start, one RL stage for each source of reward from it, and gold after each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARMS = ("verifier", "judge", "judge-with-reference", "environment", "environment-one-try")


@dataclass(frozen=True)
class Budget:
    """What every arm may spend. An episode may take two turns, so an environment gets fewer of them."""

    steps: int = 16
    prompts: int = 16
    episodes: int = 12
    samples: int = 8
    tokens: int = 48
    cold_steps: int = 10
    held_out: int = 200
    model: str = "smollm2-135m-instruct"
    judge: str = "smollm2-135m-instruct"


QUICK = Budget(steps=2, prompts=2, episodes=2, samples=4, tokens=16, cold_steps=1, held_out=4, model="toy")
SUMS = {"operations": ["add"], "digits": [1, 2], "terms": [2, 3]}
RIGHT = [{"kind": "math", "extract": "any"}]


def recipe(budget: Budget, seed: int) -> dict[str, Any]:
    cold = {"source": "builtin:arithmetic", "count": 384, "options": {**SUMS, "style": "think_equation"}}
    stages: list[dict[str, Any]] = [
        gold("start", "base", budget),
        {
            "id": "cold-start",
            "kind": "sft",
            "data": [cold],
            "learning_rate": 5e-4,
            "schedule": "linear",
            "warmup_steps": min(2, budget.cold_steps - 1),
            "steps": budget.cold_steps,
            "batch_size": 16,
        },
        gold("cold-start-gold", "cold-start", budget),
    ]
    for arm in ARMS:
        stages += [training(arm, budget), gold(f"{arm}-gold", arm, budget)]
    return {
        "name": f"reward-sources-{seed}",
        "source": "An experiment of our own, on the order that texts give: verifiers, judges, environments.",
        "tradeoff": "One small model and one kind of task: it can refute an order, and not prove one.",
        "model": budget.model,
        "seed": seed,
        "stages": stages,
    }


def gold(name: str, model: str, budget: Budget) -> dict[str, Any]:
    """Held-out sums, answered once, greedily, without a second try, checked exactly."""
    test = {"source": "builtin:arithmetic", "split": "test", "count": budget.held_out, "options": SUMS}
    return {
        "id": name,
        "kind": "evaluate",
        "model": model,
        "suites": {"sums": test},
        "graders": RIGHT,
        "sampling": {"max_tokens": budget.tokens},
    }


def training(arm: str, budget: Budget) -> dict[str, Any]:
    """The same but for where the reward comes from."""
    return {
        "id": arm,
        "kind": "grpo",
        "model": "cold-start",
        "tasks": [{"source": "builtin:arithmetic", "count": 2000, "options": SUMS}],
        "algorithm": "dr_grpo",
        "learning_rate": 3e-4,
        "steps": budget.steps,
        "prompts_per_step": budget.episodes if arm == "environment" else budget.prompts,
        "samples_per_prompt": budget.samples,
        "max_tokens": budget.tokens,
        "kl": {"coefficient": 0.01},
        "checkpoint_every": 8,
        **reward(arm, budget),
    }


def reward(arm: str, budget: Budget) -> dict[str, Any]:
    if arm.startswith("environment"):
        tries = 1 if arm == "environment-one-try" else 2
        world = {"kind": "own", "path": f"{Path(__file__).with_name('till.py')}:Till", "options": {"tries": tries}}
        return {"environment": {**world, "max_turns": tries, "max_episode_tokens": 4 * budget.tokens + 160}}
    if arm == "verifier":
        return {"graders": RIGHT}
    judge = {
        "kind": "judge",
        "models": [{"model": budget.judge}],
        "criteria": ["The number that the answer ends with is the correct sum."],
        "show_reference": arm == "judge-with-reference",
        "accept_untrusted_judge": True,
    }
    return {"graders": [judge]}
