"""teach: a teacher on this machine or behind an endpoint answers prompts; the good answers become training rows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from posttrain import chat
from posttrain.core.config import GraderConfig
from posttrain.core.config.distill import TeachConfig
from posttrain.core.config.endpoint import EndpointConfig
from posttrain.core.errors import Interrupted, PromiseBroken
from posttrain.core.protocols import Grader
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.types import Grade, Group, Message, Rollout, Task
from posttrain.data import examples
from posttrain.generation.endpoint import Endpoint
from posttrain.models.view import InferenceView
from posttrain.records.files import write_atomic
from posttrain.records.paths import StagePaths
from posttrain.records.replies import Remembered
from posttrain.records.rollouts import RolloutRecord, read_rollouts, write_rollouts
from posttrain.rollouts.collect import graded, grouped
from posttrain.stages.best_of_n import speaks
from posttrain.stages.parts import HERE, grading, model_of, run_async, sampler, tasks_of
from posttrain.stages.sampled import sampled, sampling_of
from posttrain.synthesis.best_of_n import Chosen, choose
from posttrain.synthesis.teach import asked, prompts, provenance, row

Thoughts = Mapping[tuple[str, int], Message]
"""The whole answer of a task's sample, where it is more than its text."""


def run(config: TeachConfig, context: StageContext) -> StageResult:
    return run_async(_run(config, context))


async def _run(config: TeachConfig, context: StageContext) -> StageResult:
    tasks = questions(config, context)
    async with judging(config.graders, tasks, context) as grader:
        if config.endpoint is not None:
            records, answers = await over_there(config, config.endpoint, tasks, grader, context)
        else:
            records, answers = await right_here(config, tasks, grader, context), {}
    keep = config.kept
    chosen = choose(records, keep, speaks(keep.language), graded=bool(config.graders))
    if not chosen.kept:
        raise PromiseBroken(
            f"stage {context.id} kept none of {len(records)} answers: {dict(chosen.dropped)}.",
            fix="Loosen keep, or change the teacher.",
        )
    write_rows(config, chosen, {task.id: task for task in tasks}, answers, context)
    unanswered = sum(record.rollout_status == "failed" for record in records)
    summary = {"tasks": len(tasks), "kept": len(chosen.kept), "dropped": dict(chosen.dropped), "unanswered": unanswered}
    return StageResult({"data": StagePaths(context.directory).data}, summary)


def questions(config: TeachConfig, context: StageContext) -> list[Task]:
    """The tasks, and the prompts of the rows, each once."""
    tasks = tasks_of(config.tasks, context) if config.tasks else []
    if not config.data:
        return tasks
    rows = examples(config.data, references=context.references, base=HERE, seed=derive(context.seed, context.id, "mix"))
    known = {task.messages for task in tasks}
    return tasks + [task for task in prompts(rows) if task.messages not in known]


@contextlib.asynccontextmanager
async def judging(configs: Sequence[GraderConfig], tasks: Sequence[Task], context: StageContext) -> AsyncIterator[Grader]:
    """The stage's graders, or one that has no opinion where there are none."""
    if not configs:
        yield unjudged
        return
    async with grading(configs, tasks, context) as grader:
        yield grader


async def unjudged(task: Task, rollout: Rollout) -> Grade:
    return Grade.unscored("no graders")


async def right_here(config: TeachConfig, tasks: Sequence[Task], grader: Grader, context: StageContext) -> list[RolloutRecord]:
    assert config.teacher is not None
    loaded = model_of(config.teacher, context)
    renderer = chat.renderer(loaded.tokenizer)
    engine = sampler(InferenceView(loaded.model), renderer)
    return await sampled("", tasks, config.sampling, engine, renderer, grader, context)


async def over_there(
    config: TeachConfig, endpoint: EndpointConfig, tasks: Sequence[Task], grader: Grader, context: StageContext
) -> tuple[list[RolloutRecord], Thoughts]:
    """Ask the endpoint what it was not asked before, and record everything it said or failed to say."""
    paths, samples, sampling = StagePaths(context.directory), config.sampling.samples, sampling_of(config.sampling)
    context.reporter.start(context.id, len(tasks) * samples)
    async with Endpoint(endpoint) as model:
        remembered = Remembered(model, endpoint.model, paths.replies)
        seed, limit = derive(context.seed, context.id, "sample"), config.max_unanswered
        rollouts = asked(tasks, samples, remembered, sampling, seed=seed, limit=limit, proceed=lambda: require_time(context))
        groups = await grouped(reported(graded(rollouts, grader), context), tasks, samples)
    context.reporter.finish()
    path = paths.rollouts / "tasks-000000.parquet"
    write_rollouts(path, 0, groups)
    return list(read_rollouts(path)), thoughts(groups)


def require_time(context: StageContext) -> None:
    if context.stop:
        raise Interrupted(
            f"{context.id} stopped; what was answered is kept.", signal=context.stop.signal, fix="Run again to go on."
        )


async def reported(rollouts: AsyncIterator[Rollout], context: StageContext) -> AsyncIterator[Rollout]:
    async for rollout in rollouts:
        context.reporter.advance(1)
        yield rollout


def thoughts(groups: Sequence[Group]) -> Thoughts:
    return {
        (group.task.id, each.sample): each.messages[-1] for group in groups for each in group.rollouts if each.status != "failed"
    }


def write_rows(
    config: TeachConfig, chosen: Chosen[RolloutRecord], tasks: Mapping[str, Task], answers: Thoughts, context: StageContext
) -> None:
    """One conversation a line, with where it came from."""
    lines: list[dict[str, Any]] = []
    for kept in chosen.kept:
        task, answer = tasks[kept.task_id], answers.get((kept.task_id, kept.sample), Message("assistant", kept.completion))
        source = provenance(
            name_of(config, context), task, kept.sample, config.sampling.samples, kept.score, sampling_of(config.sampling)
        )
        lines.append(row(task, answer, source))
    write_atomic(StagePaths(context.directory).data, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def name_of(config: TeachConfig, context: StageContext) -> str:
    """The teacher as the recipe calls it, which stays true where a run is moved; a path would not."""
    if config.endpoint is not None:
        return f"{config.endpoint.model} at {config.endpoint.url}"
    return context.recipe.model if config.teacher == "base" else str(config.teacher)
