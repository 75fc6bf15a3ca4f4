"""grpo: tasks and graders -> rounds of sampling and training -> model and adapter."""

from __future__ import annotations

from posttrain import chat
from posttrain.core.config import GrpoConfig
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.records.paths import StagePaths
from posttrain.stages.parts import grading, model_of, playing, run_async, sampler, save_policy, tasks_of
from posttrain.stages.rounds import Rounds, drive_rounds, first_and_last, watcher
from posttrain.training.driver import resume
from posttrain.training.grpo import grpo
from posttrain.training.policy import Policy


def run(config: GrpoConfig, context: StageContext) -> StageResult:
    return run_async(_run(config, context))


async def _run(config: GrpoConfig, context: StageContext) -> StageResult:
    paths, seed = StagePaths(context.directory), derive(context.seed, context.id)
    tasks = tasks_of(config.tasks, context)
    loaded = model_of(config.model, context)
    renderer = chat.renderer(loaded.tokenizer)
    policy = Policy(loaded, config, total_steps=config.updates, seed=seed, reference=config.kl.coefficient > 0)
    start = resume(policy, paths, context.reporter)
    engine = sampler(policy.view, renderer)
    judges = grading(config.graders, tasks, context, tokenizer=loaded.tokenizer, environment=config.environment)
    async with playing(config.environment) as world, judges as grader:
        source = Rounds(config, tasks, engine, renderer, grader, seed, world)
        loop = grpo(policy, engine, source.collect, config, seed=seed, start=start.steps, state=start.state)
        history = await drive_rounds(loop, policy, config, context, start, watcher(config))
    artefacts = save_policy(policy, loaded.path, paths)
    measured = first_and_last(history, reward="reward/mean", passed="passed")
    return StageResult(artefacts, {"steps": config.steps, "algorithm": config.algorithm, **measured})
