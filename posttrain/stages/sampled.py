"""Answers of a fixed model to a list of tasks, a chunk at a time, so that a killed stage goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence

from posttrain.core.config import SamplingConfig
from posttrain.core.errors import Interrupted
from posttrain.core.faults import fault
from posttrain.core.protocols import Generator, Grader, Renderer
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext
from posttrain.core.types import Sampling, Task
from posttrain.records.paths import StagePaths
from posttrain.records.rollouts import RolloutRecord, read_rollouts, write_rollouts
from posttrain.rollouts.collect import collect
from posttrain.rollouts.environment import World

ROWS = 256
"""Completions in one chunk: enough to fill the engine, few enough to lose little."""


def sampling_of(config: SamplingConfig) -> Sampling:
    return Sampling(config.temperature, config.max_tokens, config.top_p, config.top_k, tuple(config.stop))


async def sampled(
    name: str,
    tasks: Sequence[Task],
    config: SamplingConfig,
    generator: Generator,
    renderer: Renderer,
    grader: Grader,
    context: StageContext,
    world: World | None = None,
) -> list[RolloutRecord]:
    """The records of all tasks of a suite. Chunks already on disk are read, not sampled again; their make-up is fixed."""
    folder = StagePaths(context.directory).rollouts
    size = max(1, ROWS // config.samples)
    records: list[RolloutRecord] = []
    context.reporter.start(f"{context.id} {name}".strip(), len(tasks))
    for start in range(0, len(tasks), size):
        chunk = tasks[start : start + size]
        path = folder / f"{name or 'tasks'}-{start:06d}.parquet"
        if not path.exists():
            if context.stop:
                raise Interrupted(
                    f"{context.id} stopped; what was sampled is kept.", signal=context.stop.signal, fix="Run again to go on."
                )
            seed = derive(context.seed, context.id, "sample", name)
            groups = await collect(
                chunk, generator, renderer, grader, sampling_of(config), samples=config.samples, seed=seed, world=world
            )
            write_rollouts(path, 0, groups, suite=name)
            fault("sampled:chunk")
        found = list(read_rollouts(path))
        records += found
        judged = [r.passed for r in records if r.passed is not None]
        context.reporter.advance(len(chunk), **({"passed": sum(judged) / len(judged)} if judged else {}))
    context.reporter.finish()
    return records
