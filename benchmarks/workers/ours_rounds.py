"""posttrain's rounds of sampling and training, GRPO's and PPO's: the parts that their stages build, without their records.

A step is everything from sampling to the new weights being ready to sample from. Every answer has exactly the case's number of
tokens, so all sides do the same work whatever the models write.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.digest import digest
from benchmarks.workers.ours_training import SAME_AS_TRL, precision, started
from benchmarks.workers.reward import vowels
from benchmarks.workers.stopwatch import Stopwatch
from posttrain import chat
from posttrain.core.config import GrpoConfig, KlConfig, LoraConfig, MathGrader, PpoConfig, TaskSource
from posttrain.core.types import Grade, Message, Rollout, Task
from posttrain.models.load import load
from posttrain.models.memory import keep_memory
from posttrain.stages.parts import sampler
from posttrain.stages.ppo import critic_of
from posttrain.stages.rounds import Rounds
from posttrain.training.actor_critic import ActorCritic
from posttrain.training.driver import Step
from posttrain.training.grpo import grpo as grpo_loop
from posttrain.training.policy import Policy
from posttrain.training.ppo import ppo as ppo_loop

NOT_READ = {"tasks": [TaskSource(source="not-read")], "graders": [MathGrader()]}
"""The case's prompts and the reward below stand in for them."""


def shared(case: dict[str, Any]) -> dict[str, Any]:
    """Settings that both methods take from the case."""
    return {
        **NOT_READ,
        **SAME_AS_TRL,
        "lora": LoraConfig(rank=case["rank"], alpha=case["alpha"]),
        "learning_rate": case["learning_rate"],
        "steps": 10**6,
        "prompts_per_step": len(case["messages"]),
        "samples_per_prompt": case["samples"],
        "max_tokens": case["new"],
        "minibatches": 1,
    }


def grpo(specification: dict[str, Any]) -> dict[str, Any]:
    """TRL's default loss (every token counts the same), KL term and clip range."""
    case = json.loads(Path(specification["case"]).read_text())
    config = GrpoConfig(
        algorithm="dapo",
        dynamic_sampling=False,
        clip_high=0.2,
        kl=KlConfig(coefficient=case["beta"], form="k3_loss"),
        **shared(case),
    )
    return asyncio.run(measured(case, config, specification))


def ppo(specification: dict[str, Any]) -> dict[str, Any]:
    """PPO on GRPO's prompts and samples, one optimizer step a round, a critic with an adapter of its own."""
    case = json.loads(Path(specification["case"]).read_text())
    return asyncio.run(measured(case, PpoConfig(kl=KlConfig(coefficient=case["beta"]), **shared(case)), specification))


async def measured(case: dict[str, Any], config: GrpoConfig | PpoConfig, specification: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    keep_memory()
    loaded = load(case["model"])
    renderer = chat.renderer(loaded.tokenizer)
    policy = Policy(loaded, config, total_steps=config.steps, seed=0, reference=True)
    started(policy, case["adapter"])
    endless: Any = SimpleNamespace(decode=renderer.decode, stop_ids=())  # no token ends an answer
    engine = sampler(policy.view, endless)
    tasks = [
        Task(str(number), tuple(Message(turn["role"], turn["content"]) for turn in turns))
        for number, turns in enumerate(case["messages"])
    ]

    async def score(_: Task, rollout: Rollout) -> Grade:
        return Grade(vowels(rollout.text))

    steps: AsyncIterator[Step]
    rounds = Rounds(config, tasks, engine, renderer, score, seed=0)
    if isinstance(config, PpoConfig):
        trained = ActorCritic(policy, critic_of(policy, config, {}, 0))
        steps = ppo_loop(trained, engine, rounds.collect, config, seed=0, start=0, state={})
    else:
        steps = grpo_loop(policy, engine, rounds.collect, config, seed=0, start=0, state={})
    watch = Stopwatch(1, specification["seconds"])
    found: dict[str, Any] = {"load_seconds": time.perf_counter() - began, "precision": precision(policy)}
    async for step in steps:
        done = watch.lap()
        if step.index == 0:
            found |= first_round(step)
        wrote = step.metrics["tokens/generated"]
        if wrote != len(tasks) * case["samples"] * case["new"]:
            raise SystemExit(f"a round wrote {wrote} tokens")
        if done:
            break
    return {**found, **watch.record(case["units"])}


def first_round(step: Step) -> dict[str, Any]:
    """What the parity gate asks: the prompts that were read, what was written and what it was worth, the gradient's norm."""
    rollouts, prompts = [], {}
    for group in step.groups:
        for rollout in group.rollouts:
            (row,) = rollout.rows
            start = list(row.mask).index(1)
            prompts[int(group.task.id)] = list(row.tokens[:start])
            advantage = step.advantages.get((group.task.id, rollout.sample), 0.0)
            rollouts.append({"tokens": list(row.tokens), "mask": list(row.mask), "advantage": advantage})
    ordered = [(prompts[number], [0] * len(prompts[number])) for number in sorted(prompts)]
    return {"digest": digest(ordered), "rollouts": rollouts, "grad_norm": step.metrics["grad_norm"]}
