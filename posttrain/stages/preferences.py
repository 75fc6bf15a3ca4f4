"""preferences: tasks -> K answers each -> scores by the gold -> pairs, written with where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from posttrain import chat
from posttrain.core.config import GraderConfig, PreferencesConfig
from posttrain.core.errors import PromiseBroken
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.types import Message, Preference
from posttrain.data.preferences import write_preferences
from posttrain.models.view import InferenceView
from posttrain.records.paths import StagePaths
from posttrain.stages.parts import grading, model_of, run_async, sampler, tasks_of
from posttrain.stages.sampled import sampled
from posttrain.synthesis.preferences import Compared, compare

GOLD = {
    "math": "verifier",
    "lookup": "verifier",
    "format": "verifier",
    "language": "verifier",
    "refusal": "verifier",
    "reward_model": "reward model",
}
"""Who prefers, by kind of grader; a rule of one's own (function, length) is synthetic."""


def run(config: PreferencesConfig, context: StageContext) -> StageResult:
    return run_async(_run(config, context))


async def _run(config: PreferencesConfig, context: StageContext) -> StageResult:
    paths = StagePaths(context.directory)
    tasks = tasks_of(config.tasks, context)
    loaded = model_of(config.model, context)
    renderer = chat.renderer(loaded.tokenizer)
    engine = sampler(InferenceView(loaded.model), renderer)
    drawn = replace(context, seed=derive(context.seed, "preferences", config.seed))
    async with grading(config.graders, tasks, context, tokenizer=loaded.tokenizer) as grader:
        records = await sampled("", tasks, config.sampling, engine, renderer, grader, drawn)
    found = compare(records, {task.id: task for task in tasks}, config, seed=derive(drawn.seed, context.id))
    if not found.compared:
        raise PromiseBroken(
            f"stage {context.id}: none of {len(tasks)} tasks gave a pair: {dict(found.skipped)}.",
            fix="Raise sampling.samples, lower margin, or choose tasks that the model sometimes solves.",
        )
    gold = source_of(config.graders)
    write_preferences(
        paths.preferences,
        (preference_of(each, gold) for each in found.compared),
        (provenance(each, config, context.references[config.model]) for each in found.compared),
    )
    return StageResult({"preferences": paths.preferences}, summary(found.compared, found.skipped, len(tasks), gold))


def source_of(graders: Sequence[GraderConfig]) -> str:
    """`verifier`, `synthetic`, …, or several joined."""
    return " and ".join(sorted({GOLD.get(grader.kind, "synthetic") for grader in graders}))


def preference_of(made: Compared, gold: str) -> Preference:
    answers = tuple((Message("assistant", text),) for text in made.answers)
    return Preference(made.task.messages, answers, tuple(made.pairs), source=gold, slices=made.task.slices)


def provenance(made: Compared, config: PreferencesConfig, model: str) -> dict[str, Any]:
    """Where a row comes from, wrong labels included: `flipped` says which pairs contradict the gold."""
    return {
        "task": made.task.id,
        "model": model,
        "gold": [grader.kind for grader in config.graders],
        "better": config.better,
        "samples": list(made.samples),
        "of": config.sampling.samples,
        "scores": list(made.scores),
        "pairing": config.pairing,
        "label_noise": config.label_noise,
        "flipped": list(made.flipped),
    }


def summary(compared: Sequence[Compared], skipped: Mapping[str, int], tasks: int, gold: str) -> dict[str, Any]:
    """Counts, and how often the better answer is the longer one: what a length-blind gold leaves at one half."""
    pairs = [(made, pair, flip) for made in compared for pair, flip in zip(made.pairs, made.flipped, strict=True)]
    margins = [pair.margin for _, pair, _ in pairs if pair.margin is not None]
    return {
        "tasks": tasks,
        "preferences": len(compared),
        "pairs": len(pairs),
        "skipped": dict(skipped),
        "source": gold,
        "flipped": sum(flip for _, _, flip in pairs),
        "margin": fmean(margins) if margins else None,
        "better is longer": fmean(len(m.answers[p.better]) > len(m.answers[p.worse]) for m, p, _ in pairs),
    }
