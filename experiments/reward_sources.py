"""Does the order hold: verifier, then judge, then environment, in how reliable a reward is?

One cold start of SmolLM2-135M on sums; from it one GRPO run for each source of reward, with tasks from the same 2,000, the same
settings and steps, and about the same number of sampled tokens. What is compared is gold: held-out sums answered once, checked
exactly.

Stated before it was run:
* The verifier's arm gains most. Its reward is gold by construction: a kappa near 1 only says that all works.
* The judge's arm (the same small model as a judge, without the answer) gains less or nothing: it cannot add either, so its reward
  says little about gold. Shown the answer, it does better.
* The environment's reward is as true as the verifier's, since its state decides, but it costs more tokens for each verdict, and it
  rewards a second try, which gold does not allow: it gains less than the verifier at the same budget. With one try (a control) it
  is a verifier by another way, and gains as much.
The order is refuted if a later source's arm ends above an earlier one's, outside the interval of the paired difference and in
every seed. The intervals resample tasks; they do not know how far one seed is from another. Added after the first seed was seen,
and only to claim less: a difference no larger than the control's is called chance.

What this cannot show: other tasks, larger judges, worlds whose state is itself in doubt. The till knows the sum and has no tools.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from experiments.gap import fooled, gap
from experiments.recipe import ARMS, Budget, recipe
from posttrain.core.statistics import interval, paired, verdicts
from posttrain.records.paths import RunPaths, StagePaths
from posttrain.records.rollouts import RolloutRecord, read_rollouts

CONTROL = ("verifier", "environment-one-try")
"""Two arms whose rewards are equally true: what differs between them is chance, the order of tasks and the draws."""
PART = 4
"""The first and the last 1/PART of an arm's steps are told apart."""


def run(out: Path, budget: Budget, seed: int) -> RunPaths:
    """Run the recipe of a seed, or go on with it. Raises CalledProcessError where it does not end well."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"reward-sources-{seed}.yaml"
    file.write_text(yaml.safe_dump(recipe(budget, seed), sort_keys=False))
    runs = out / "runs"
    subprocess.run(
        [sys.executable, "-m", "posttrain.cli", "run", str(file), "--name", f"seed-{seed}", "--runs", str(runs)], check=True
    )
    return RunPaths(runs / f"seed-{seed}")


def found(run: RunPaths) -> dict[str, Any]:
    """What a seed's run says of every arm."""
    before = verdicts(answers(run, "cold-start-gold"))
    return {"start": interval(before).to_json(), "arms": {arm: of_arm(run, arm, before) for arm in ARMS}}


def of_arm(run: RunPaths, arm: str, before: Mapping[str, Sequence[bool]]) -> dict[str, Any]:
    after = verdicts(answers(run, f"{arm}-gold"))
    rollouts = answers(run, arm)
    last = max(rollout.step for rollout in rollouts) + 1
    part = max(1, last // PART)
    return {
        "gold": interval(after).to_json(),
        "gain": asdict(paired(before, after)),
        "tokens": sum(rollout.tokens for rollout in rollouts),
        "rollouts": len(rollouts),
        "first": asdict(gap([rollout for rollout in rollouts if rollout.step < part])),
        "last": asdict(gap([rollout for rollout in rollouts if rollout.step >= last - part])),
        "all": asdict(gap(rollouts)),
        "fooled": [{"asked": asked(r), "answer": r.completion[:200], "reference": r.reference} for r in fooled(rollouts)],
        "passed": {task: list(values) for task, values in after.items()},
    }


def asked(rollout: RolloutRecord) -> str:
    return next((str(turn["content"]) for turn in rollout.prompt if turn["role"] == "user"), "")


def answers(run: RunPaths, stage: str) -> list[RolloutRecord]:
    return list(read_rollouts(StagePaths(run.root / stage).rollouts))


def pooled(seeds: Mapping[str, Mapping[str, Any]], arm: str) -> dict[str, list[bool]]:
    """Held-out verdicts of an arm over all seeds, by task: a task's samples are the seeds."""
    tasks: dict[str, list[bool]] = {}
    for result in seeds.values():
        for task, values in result["arms"][arm]["passed"].items():
            tasks.setdefault(task, []).extend(values)
    return tasks


def order(seeds: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each source beside those before it in the order, and the control beside the verifier; `each` is the difference in every
    seed."""
    found = []
    for earlier, later in (*combinations(("verifier", "judge", "environment"), 2), CONTROL):
        each = [paired(*(pooled({seed: result}, arm) for arm in (earlier, later))).difference for seed, result in seeds.items()]
        whole = asdict(paired(pooled(seeds, earlier), pooled(seeds, later)))
        found.append({"earlier": earlier, "later": later, "each": each, **whole})
    return found


def keep(out: Path, seeds: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    record = {"budget": asdict(budget), "seeds": dict(seeds), "order": order(seeds)}
    (out / "reward-sources.json").write_text(json.dumps(record, indent=1) + "\n")
    return record
