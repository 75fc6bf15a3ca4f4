"""distill: a student, a teacher with the same tokenizer, prompts -> the student moved towards the teacher on its own samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from posttrain import chat
from posttrain.core.config import SftConfig
from posttrain.core.config.distill import DistillConfig
from posttrain.core.errors import UserError
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.types import Group, Task
from posttrain.data.store import TokenStore
from posttrain.models.load import Loaded
from posttrain.models.tokenizers import differs
from posttrain.monitors import MONITORS, Decision, History
from posttrain.records.paths import StagePaths
from posttrain.stages.parts import model_of, run_async, sampler, save_policy, tasks_of
from posttrain.stages.rounds import Rounds, drive_rounds, first_and_last
from posttrain.stages.sft import encoded
from posttrain.stages.teach import unjudged
from posttrain.training.distill import distill
from posttrain.training.driver import Watch, resume
from posttrain.training.policy import Policy

WATCHED = ("not_finite", "gap", "length", "truncation", "repetition")
"""The monitors that need no reward."""


def run(config: DistillConfig, context: StageContext) -> StageResult:
    return run_async(_run(config, context))


async def _run(config: DistillConfig, context: StageContext) -> StageResult:
    tasks = tasks_of(config.tasks, context) if config.tasks else []
    loaded, teacher = model_of(config.model, context), model_of(config.teacher, context)
    policy, history = await train(config, context, loaded, teacher, tasks)
    artefacts = save_policy(policy, loaded.path, StagePaths(context.directory))
    summary: dict[str, Any] = {"steps": config.steps, "divergence": config.divergence, "over": config.over}
    summary |= first_and_last(history, **{name: name for name in ("kl/teacher", "agreement", "entropy")})
    return StageResult(artefacts, summary)


async def train(
    config: DistillConfig, context: StageContext, loaded: Loaded, teacher: Loaded, tasks: Sequence[Task]
) -> tuple[Policy, list[dict[str, Any]]]:
    """The student, trained, and the metrics of all steps."""
    paths, seed = StagePaths(context.directory), derive(context.seed, context.id)
    require_one_vocabulary(loaded, teacher, config, context)
    teacher.model.requires_grad_(False)
    renderer = chat.renderer(loaded.tokenizer)
    rows = rows_of(config, context, renderer)
    policy = Policy(loaded, config, total_steps=config.steps, seed=seed)
    start = resume(policy, paths, context.reporter)
    engine = sampler(policy.view, renderer)
    source = Rounds(config, tasks, engine, renderer, unjudged, seed)
    loop = distill(policy, teacher.model, engine, source.collect, rows, config, seed=seed, start=start.steps, state=start.state)
    return policy, await drive_rounds(loop, policy, config, context, start, watcher(config))


def rows_of(config: DistillConfig, context: StageContext, renderer: chat.ChatRenderer) -> TokenStore | None:
    """The rows of the steps that are not on the student's own samples, encoded as SFT does it, evaluation tasks refused."""
    if not config.data:
        return None
    as_sft = SftConfig(model=config.model, data=config.data, max_length=config.max_length, decontaminate=config.decontaminate)
    return encoded(as_sft, context, renderer)[0]


def watcher(config: DistillConfig) -> Watch:
    settings = {"gap": {"budget": config.mismatch_budget}}

    def watch(history: History, groups: Sequence[Group]) -> list[Decision]:
        found = [MONITORS[name](history, groups, **settings.get(name, {})) for name in WATCHED]
        return [decision for decision in found if decision]

    return watch


def require_one_vocabulary(student: Loaded, teacher: Loaded, config: DistillConfig, context: StageContext) -> None:
    """The teacher is asked about the student's tokens by their number, so a number must mean the same to both."""
    if difference := differs(student.tokenizer, teacher.tokenizer):
        raise UserError(
            f"stage {context.id}: teacher {config.teacher!r} has another tokenizer than {config.model!r}: {difference}.",
            fix="Use a teacher of the same family, or a teach stage, which needs no common tokenizer.",
        )
    shared = min(len(loaded.model.get_output_embeddings().weight) for loaded in (student, teacher))
    if shared < len(student.tokenizer):
        raise UserError(
            f"stage {context.id}: a model's output has {shared} tokens, the tokenizer {len(student.tokenizer)}.",
            fix="Use models whose output covers their tokenizer.",
        )
    if config.over == "top_k" and config.top_k >= shared:
        raise UserError(
            f"stage {context.id}: top_k is {config.top_k}; the vocabulary has {shared} tokens, and one must be left.",
            fix="Lower top_k, or use over: vocabulary.",
        )
