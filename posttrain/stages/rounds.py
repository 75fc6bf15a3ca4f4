"""What every stage on its own samples builds: the walk over tasks, the monitors, and the way to the driver."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from posttrain.core.config import GrpoConfig, JudgeGrader, RolloutConfig
from posttrain.core.config.distill import DistillConfig
from posttrain.core.order import item_at
from posttrain.core.protocols import Generator, Grader, Renderer
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext
from posttrain.core.types import Completion, Group, Sampling, Task
from posttrain.graders.judge import canaries
from posttrain.monitors import watch
from posttrain.records.paths import StagePaths
from posttrain.rollouts.collect import collect
from posttrain.rollouts.environment import World
from posttrain.training.driver import Resumed, Step, Trained, Watch, drive
from posttrain.training.grpo import method_of
from posttrain.training.rounds import Collected, no_signal


async def drive_rounds(
    loop: AsyncIterator[Step],
    trained: Trained,
    config: RolloutConfig | DistillConfig,
    context: StageContext,
    start: Resumed,
    concerns: Watch,
) -> list[dict[str, Any]]:
    """Run a loop of rounds to its end, keeping rollouts as the stage says. Returns the metrics of all steps."""
    return await drive(
        loop,
        trained,
        StagePaths(context.directory),
        config,
        start=start,
        total=config.steps,
        reporter=context.reporter,
        stop=context.stop,
        watch=concerns,
        keep_rollouts_every=config.save_rollouts_every,
    )


def first_and_last(history: Sequence[Mapping[str, Any]], **metrics: str) -> dict[str, dict[str, Any]]:
    """For a stage's summary: where each metric began and ended, under the name given."""
    return {name: {"first": history[0].get(metric), "last": history[-1].get(metric)} for name, metric in metrics.items()}


def watcher(config: RolloutConfig) -> Watch:
    """The monitors with this stage's own limits."""
    limits = [judge.most_fooled for judge in config.graders if isinstance(judge, JudgeGrader)]
    most = min((limit for limit in limits if limit is not None), default=None)
    settings: dict[str, dict[str, Any]] = {
        "gap": {"budget": config.mismatch_budget},
        "unscored": {"limit": config.max_unscored},
        "canaries": {"most": most},
    }
    return lambda history, groups: watch(history, groups, settings=settings)


def attempts(config: RolloutConfig | DistillConfig) -> int:
    """How many times a round may draw tasks: once, but for dynamic sampling."""
    return config.max_rounds if isinstance(config, GrpoConfig) and method_of(config).dynamic else 1


@dataclass
class Rounds:
    """Draws tasks in a fixed order and collects their groups; with dynamic sampling, draws on until enough carry signal."""

    config: RolloutConfig | DistillConfig
    tasks: Sequence[Task]
    generator: Generator
    renderer: Renderer
    grader: Grader
    seed: int
    world: World | None = None

    async def collect(self, index: int, position: int) -> Collected:
        config, began = self.config, time.perf_counter()
        wanted, rounds = config.prompts_per_step, attempts(config)
        timed = Timed(self.generator)
        sampling = Sampling(config.temperature, config.max_tokens)
        kept: list[Group] = []
        drawn = flat = 0
        for attempt in range(rounds):
            count = wanted - len(kept)
            tasks = self.draw(position, count)
            position += count
            seed = derive(self.seed, "sample", index, attempt)
            groups = await collect(
                tasks, timed, self.renderer, self.grader, sampling, samples=config.samples_per_prompt, seed=seed, world=self.world
            )
            drawn, flat = drawn + len(groups), flat + sum(no_signal(group) for group in groups)
            last = attempt == rounds - 1
            kept += [group for group in groups if last or not no_signal(group)]
            if len(kept) >= wanted:
                break
        ended = time.perf_counter()
        generated = timed.last - began
        metrics = {"time/generate": generated, "time/grade": ended - began - generated, "groups/zero_variance": flat / drawn}
        metrics |= episode_metrics(kept)
        metrics |= await canaries.check(getattr(self.grader, "judges", ()), self.tasks, index, self.seed)
        return Collected(kept, position, metrics)

    def draw(self, position: int, count: int) -> list[Task]:
        """The next tasks of the walk; a task met twice in one round is passed over, so that ids stay unique."""
        seed = derive(self.seed, "order")
        found = [self.tasks[item_at(position + i, len(self.tasks), seed)] for i in range(count)]
        return list({task.id: task for task in found}.values())


def episode_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """How long episodes went on, how much was called, and how they ended; nothing for single answers."""
    played = [rollout for group in groups for rollout in group.rollouts if rollout.ending]
    if not played:
        return {}
    turns = [sum(message.role == "assistant" for message in rollout.messages) for rollout in played]
    calls = [sum(len(message.tool_calls) for message in rollout.messages) for rollout in played]
    endings = Counter(rollout.ending for rollout in played)
    return {
        "episode/turns": fmean(turns),
        "episode/calls": fmean(calls),
        **{f"ended/{ending}": count / len(played) for ending, count in sorted(endings.items())},
    }


@dataclass
class Timed:
    """A generator that remembers when it last gave something, to tell generating from waiting for grades."""

    inner: Generator
    version: int = 0
    last: float = field(default_factory=time.perf_counter)

    async def generate(self, prompt: array[int], sampling: Sampling, *, seed: int) -> Completion:
        completion = await self.inner.generate(prompt, sampling, seed=seed)
        self.last = time.perf_counter()
        return completion

    async def update(self, version: int) -> None:
        await self.inner.update(version)
