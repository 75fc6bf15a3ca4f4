"""best_of_n: sample N answers a task, grade them, write the best as training rows, and the curve of what N buys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from posttrain import chat
from posttrain.core.config import BestOfNConfig, KeepConfig, LanguageGrader
from posttrain.core.errors import PromiseBroken
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.statistics import interval, paired, verdicts
from posttrain.core.types import Message, Task
from posttrain.evaluation import best_of_n_kl, pass_at_k
from posttrain.graders import grade_text
from posttrain.models.view import InferenceView
from posttrain.records.files import write_atomic
from posttrain.records.paths import StagePaths
from posttrain.records.rollouts import RolloutRecord
from posttrain.stages.parts import grading, model_of, playing, run_async, sampler, tasks_of
from posttrain.stages.sampled import sampled
from posttrain.synthesis.best_of_n import Chosen, choose, why_not


def run(config: BestOfNConfig, context: StageContext) -> StageResult:
    return run_async(_run(config, context))


async def _run(config: BestOfNConfig, context: StageContext) -> StageResult:
    paths = StagePaths(context.directory)
    tasks = tasks_of(config.tasks, context)
    loaded = model_of(config.model, context)
    renderer = chat.renderer(loaded.tokenizer)
    engine = sampler(InferenceView(loaded.model), renderer)
    judges = grading(config.graders, tasks, context, tokenizer=loaded.tokenizer, environment=config.environment)
    async with playing(config.environment) as world, judges as grader:
        records = await sampled("", tasks, config.sampling, engine, renderer, grader, context, world)
    in_language = speaks(config.keep.language)
    chosen = choose(records, config.keep, in_language)
    if not chosen.kept:
        raise PromiseBroken(
            f"stage {context.id} kept none of {len(records)} answers: {dict(chosen.dropped)}.",
            fix="Loosen keep, raise sampling.samples, or train the model further first.",
        )
    write_rows(paths, chosen, {task.id: task for task in tasks}, context.references[config.model], config.sampling.samples)
    summary = {
        "tasks": len(tasks),
        "kept": len(chosen.kept),
        "dropped": dict(chosen.dropped),
        "curve": curve(records, config.sampling.samples),
        "worth": {} if config.keep.passed else worth(chosen.kept, records, config.keep, in_language),
    }
    return StageResult({"data": paths.data}, summary)


def worth(
    kept: Sequence[RolloutRecord], records: Sequence[RolloutRecord], keep: KeepConfig, in_language: Callable[[str], bool]
) -> dict[str, Any]:
    """What choosing gained on these tasks: pass rates of the chosen answers, of all that passed the filters and could have been
    chosen, and of any sample; `difference` is of the first two, task by task, so it is the graders' doing and not the filters'.
    Empty where no grader gives a verdict; one of weight 0 beside a reward model gives one and chooses nothing."""
    best, every = verdicts(kept), verdicts(records)
    could = verdicts(record for record in records if not why_not(record, keep, in_language))
    if not best:
        return {}
    return {
        "chosen": interval(best).to_json(),
        "could_be_chosen": interval(could).to_json(),
        "one_sample": interval(every).to_json(),
        "difference": paired(could, best).to_json(),
    }


def speaks(language: str | None) -> Any:
    """A test of a text's language by the language grader; half of its words must belong to it."""
    if language is None:
        return lambda text: True
    config = LanguageGrader(language=language)
    task = Task("language", (Message("user", ""),))
    return lambda text: (grade_text(config, task, text).score or 0.0) >= 0.5


def write_rows(paths: StagePaths, chosen: Chosen[RolloutRecord], tasks: Mapping[str, Task], model: str, samples: int) -> None:
    """One conversation a line, with where it came from."""
    write_atomic(
        paths.data, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rows(chosen.kept, tasks, model, samples))
    )


def rows(kept: Iterable[RolloutRecord], tasks: Mapping[str, Task], model: str, samples: int) -> Iterable[dict[str, Any]]:
    for record in kept:
        asked = [{"role": m.role, "content": m.content} for m in tasks[record.task_id].messages]
        prompt = [turn(message) for message in record.prompt] if record.ending else asked
        provenance = {"task": record.task_id, "model": model, "sample": record.sample, "of": samples, "score": record.score}
        yield {
            "messages": [*prompt, {"role": "assistant", "content": record.completion}],
            **({"tools": list(record.tools)} if record.tools else {}),
            "slices": dict(record.slices),
            "provenance": provenance,
        }


def turn(message: Mapping[str, Any]) -> dict[str, Any]:
    """A turn of an episode as training rows have it, its calls in the form that files use."""
    calls = [{"function": {"name": call["name"], "arguments": call["arguments"]}} for call in message.get("tool_calls", ())]
    return {**message, "tool_calls": calls} if calls else dict(message)


def curve(records: Sequence[RolloutRecord], samples: int) -> list[dict[str, float]]:
    """For k = 1, 2, 4, … N: unbiased pass@k, and the KL from the model that choosing the best of k costs (at most)."""
    by_task: dict[str, list[bool]] = {}
    for record in records:
        if record.passed is not None:
            by_task.setdefault(record.task_id, []).append(record.passed)
    sizes = sorted({*(1 << i for i in range(samples.bit_length()) if 1 << i <= samples), samples})
    points = []
    for k in sizes:
        rates = [pass_at_k(len(passed), sum(passed), k) for passed in by_task.values() if len(passed) >= k]
        if rates:
            points.append({"k": k, "pass@k": fmean(rates), "kl": best_of_n_kl(k)})
    return points
