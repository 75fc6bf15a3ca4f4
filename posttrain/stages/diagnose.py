"""diagnose: where and how an evaluated model fails, and new tasks weighted towards it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from posttrain import diagnosis
from posttrain.core.config import DiagnoseConfig, TaskSource
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.types import Conversation, Message, Task
from posttrain.data import builtin, load_tasks
from posttrain.records.files import write_atomic, write_json
from posttrain.records.paths import StagePaths
from posttrain.records.rollouts import read_rollouts

HERE = Path()
POOL = 8
"""The patch is chosen from this many times as many fresh tasks."""


def run(config: DiagnoseConfig, context: StageContext) -> StageResult:
    paths = StagePaths(context.directory)
    records = read_rollouts(StagePaths(Path(context.references[config.of])).rollouts)
    before = read_rollouts(StagePaths(Path(context.references[config.before])).rollouts) if config.before else None
    found = diagnosis.diagnose(records, before=before, examples=config.examples)
    weights = diagnosis.patch(found)
    write_json(paths.diagnosis, {**found.to_json(), "of": config.of, "before": config.before, "weights": weights})
    artefacts = {"diagnosis": paths.diagnosis}
    summary: dict[str, Any] = {"of": config.of, "advice": {suite: list(each.advice) for suite, each in found.suites.items()}}
    if config.patch is not None:
        count = write_patch(paths.tasks, config.patch, weights, context)
        artefacts["tasks"] = paths.tasks
        summary |= {"patch": count, "weights": weights}
    return StageResult(artefacts, summary)


def write_patch(path: Path, source: TaskSource, weights: Mapping[str, float], context: StageContext) -> int:
    """Fresh tasks, drawn without replacement with the weights of their slices. Where the set is built in, each line also
    has a demonstration, so that the file serves as tasks and as training rows."""
    pool, shown = fresh(source, context)
    draw = random.Random(derive(context.seed, context.id, "patch"))
    # the largest of u^(1/weight) are a weighted draw without replacement (Efraimidis and Spirakis, 2006)
    keyed = sorted(range(len(pool)), key=lambda i: -(draw.random() ** (1 / diagnosis.task_weight(pool[i].slices, weights))))
    chosen = sorted(keyed[: source.count])
    lines = [json.dumps(line_of(pool[i], shown[i] if shown else None), ensure_ascii=False) + "\n" for i in chosen]
    write_atomic(path, "".join(lines))
    return len(lines)


def fresh(source: TaskSource, context: StageContext) -> tuple[list[Task], Sequence[Conversation]]:
    """A pool of new tasks, and their demonstrations where the set is built in."""
    seed = derive(context.seed, context.id, "pool") % 2**31
    asked = {name: value for name, value in source.options.items() if name != "style"}  # of demonstrations, not of tasks
    wide = replace(source, count=source.count * POOL, seed=seed, options=asked)
    pool = load_tasks([wide], references=context.references, base=HERE, seed=seed)
    if not source.source.startswith("builtin:"):
        return pool, ()
    name = source.source.removeprefix("builtin:")
    made = builtin.demonstrations(name, split=source.split, count=wide.count, seed=seed, options=source.options)
    by_prompt = {said(conversation.messages[:-1]): conversation for conversation in made}
    return pool, [by_prompt[said(task.messages)] for task in pool]


def said(prompt: Sequence[Message]) -> tuple[str, ...]:
    """All turns but a system prompt, which only tasks have: a last question alone may belong to several conversations."""
    return tuple(message.content for message in prompt if message.role != "system")


def line_of(task: Task, shown: Conversation | None) -> dict[str, Any]:
    prompt = [{"role": m.role, "content": m.content} for m in task.messages]
    line: dict[str, Any] = {
        "id": task.id,
        "prompt": prompt,
        "answer": task.answer,
        "slices": dict(task.slices),
        "metadata": dict(task.metadata),
    }
    if shown is not None:
        line["messages"] = [*prompt, {"role": "assistant", "content": shown.messages[-1].content}]
    return line
