"""online_dpo: tasks and graders -> rounds of sampling, pairing and learning -> model and adapter."""

from __future__ import annotations

from collections.abc import Sequence

from posttrain import chat
from posttrain.core.config import OnlineDpoConfig
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.types import Pair
from posttrain.records.paths import StagePaths
from posttrain.stages.parts import grading, model_of, run_async, sampler, save_policy, tasks_of
from posttrain.stages.rounds import Rounds, drive_rounds, first_and_last, watcher
from posttrain.synthesis.preferences import paired
from posttrain.training.dpo import objective
from posttrain.training.driver import resume
from posttrain.training.online_dpo import online_dpo
from posttrain.training.policy import Policy


def run(config: OnlineDpoConfig, context: StageContext) -> StageResult:
    return run_async(_run(config, context))


async def _run(config: OnlineDpoConfig, context: StageContext) -> StageResult:
    paths, seed = StagePaths(context.directory), derive(context.seed, context.id)
    tasks = tasks_of(config.tasks, context)
    loaded = model_of(config.model, context)
    renderer = chat.renderer(loaded.tokenizer)
    needs_reference = objective(config).method.reference
    policy = Policy(loaded, config, total_steps=config.steps, seed=seed, reference=needs_reference)
    start = resume(policy, paths, context.reporter)
    engine = sampler(policy.view, renderer)

    def pairing(scores: Sequence[float]) -> list[Pair]:
        return paired(scores, [True] * len(scores), config.pairing, config.margin)

    formatting = frozenset(renderer.stop_ids if config.mask_formatting else ())
    async with grading(config.graders, tasks, context, tokenizer=loaded.tokenizer) as grader:
        source = Rounds(config, tasks, engine, renderer, grader, seed)
        loop = online_dpo(policy, engine, source.collect, pairing, formatting, config, start=start.steps, state=start.state)
        history = await drive_rounds(loop, policy, config, context, start, watcher(config))
    artefacts = save_policy(policy, loaded.path, paths)
    pairs = sum(int(row["pairs"]) for row in history)
    measured = first_and_last(history, reward="reward/mean", passed="passed")
    return StageResult(artefacts, {"steps": config.steps, "method": config.loss, "pairs": pairs, **measured})
