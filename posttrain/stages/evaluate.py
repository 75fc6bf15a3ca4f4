"""evaluate: pass rates of a model on named suites, with intervals, by slice, and compared with an earlier evaluation."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posttrain import chat, evaluation
from posttrain.core.config import EvaluateConfig
from posttrain.core.errors import PromiseBroken
from posttrain.core.stage import StageContext, StageResult
from posttrain.models.view import InferenceView
from posttrain.records.files import write_atomic
from posttrain.records.paths import StagePaths
from posttrain.records.rollouts import RolloutRecord, read_rollouts
from posttrain.stages.parts import grading, model_of, playing, run_async, sampler, tasks_of
from posttrain.stages.sampled import sampled


def run(config: EvaluateConfig, context: StageContext) -> StageResult:
    return run_async(_run(config, context))


async def _run(config: EvaluateConfig, context: StageContext) -> StageResult:
    suites = {name: tasks_of([source], context) for name, source in config.suites.items()}
    loaded = model_of(config.model, context)
    renderer = chat.renderer(loaded.tokenizer)
    engine = sampler(InferenceView(loaded.model), renderer)
    records: list[RolloutRecord] = []
    every = [task for tasks in suites.values() for task in tasks]
    judges = grading(config.graders, every, context, tokenizer=loaded.tokenizer, environment=config.environment)
    async with playing(config.environment) as world, judges as grader:
        for name, tasks in suites.items():
            records += await sampled(name, tasks, config.sampling, engine, renderer, grader, context, world)
    measured = evaluation.summarise(records, config.pass_at)
    summary: dict[str, Any] = {"model": context.references[config.model], "samples": len(records)}
    if config.environment is not None:
        summary["endings"] = dict(Counter(record.ending for record in records))
    if config.compare_to is not None:
        earlier = read_rollouts(StagePaths(Path(context.references[config.compare_to])).rollouts)
        found = evaluation.difference(earlier, records)
        summary["compared_to"] = {"stage": config.compare_to, **{suite: each.to_json() for suite, each in found.items()}}
    export_lm_eval(records, config, context)
    require_minimum(measured, config)
    return StageResult({"evaluation": StagePaths(context.directory).rollouts}, summary, measured)


def export_lm_eval(records: list[RolloutRecord], config: EvaluateConfig, context: StageContext) -> None:
    """The same results as lm-eval writes them, for tools that read those."""
    found = evaluation.lm_eval_files(
        records,
        model=context.references[config.model],
        pass_at=config.pass_at,
        generation=asdict(config.sampling),
        seed=context.seed,
    )
    for name, content in found.items():
        write_atomic(context.directory / "lm_eval" / name, content)


def require_minimum(measured: dict[str, dict[str, Any]], config: EvaluateConfig) -> None:
    for suite, least in config.minimum.items():
        value = measured[suite]["pass@1"]["value"]
        if value is None or value < least:
            raise PromiseBroken(
                f"suite {suite}: pass@1 is {value}, below the gate of {least}.", fix="The rollouts are kept; see the report."
            )
