"""sft: data -> encoded rows on disk -> training -> model and adapter."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posttrain import chat
from posttrain.core.config import EvaluateConfig, SftConfig
from posttrain.core.errors import UserError
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.types import Example, Passage, Task
from posttrain.data import examples
from posttrain.data.decontaminate import Index
from posttrain.data.dedup import unique
from posttrain.data.messages import silent
from posttrain.data.near_duplicates import near_unique
from posttrain.data.split import hold_out
from posttrain.data.store import TokenStore, TokenStoreWriter
from posttrain.records.files import write_json
from posttrain.records.paths import StagePaths
from posttrain.records.summary import read_json
from posttrain.stages.parts import HERE, model_of, run_async, save_policy, tasks_of
from posttrain.training.driver import drive, resume
from posttrain.training.policy import Policy
from posttrain.training.sft import sft, total_steps


@dataclass
class Counts:
    """What became of the rows on their way to the store."""

    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    cut: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def run(config: SftConfig, context: StageContext) -> StageResult:
    paths = StagePaths(context.directory)
    loaded = model_of(config.model, context)
    renderer = chat.renderer(loaded.tokenizer)
    store, counts = encoded(config, context, renderer)
    train, held_out = hold_out(len(store), config.validation, seed=derive(context.seed, context.id, "validation"))
    total = total_steps(config, len(train))
    policy = Policy(loaded, config, total_steps=total, seed=derive(context.seed, context.id))
    start = resume(policy, paths, context.reporter)
    loop = sft(policy, store, train, held_out, config, seed=derive(context.seed, context.id), start=start.steps)
    work = drive(loop, policy, paths, config, start=start, total=total, reporter=context.reporter, stop=context.stop)
    history = run_async(work)
    artefacts = save_policy(policy, loaded.path, paths)
    summary = {"steps": total, "loss": history[-1]["loss"], **counts}
    return StageResult(artefacts, summary)


def encoded(config: SftConfig, context: StageContext, renderer: chat.ChatRenderer) -> tuple[TokenStore, dict[str, Any]]:
    """The stage's rows as tokens and masks on disk, made once; a resumed stage reads them again."""
    folder, counted = context.directory / "rows", context.directory / "rows.json"
    if not (folder.exists() and counted.exists()):
        counts = Counts()
        rows = examples(config.data, references=context.references, base=HERE, seed=derive(context.seed, context.id, "mix"))
        if config.decontaminate:
            rows = clean(rows, evaluation_tasks(context))
        shutil.rmtree(folder, ignore_errors=True)  # of a process killed before the counts were written
        with TokenStoreWriter(folder) as writer:
            write(writer, rows, config, renderer, counts)
        write_json(counted, {**vars(counts), "dropped": dict(counts.dropped)})
        preview(folder, renderer, context)
    found = read_json(counted)
    if not found["rows"]:
        left_out = f"left out: {found['dropped']}"
        raise UserError(f"stage {context.id} has no rows to train on ({left_out}).", fix="Check its data and filters.")
    if config.validation >= found["rows"]:
        raise UserError(
            f"stage {context.id}: validation is {config.validation}, but there are only {found['rows']} rows.",
            fix="Hold out fewer.",
        )
    return TokenStore(folder), found


def write(
    writer: TokenStoreWriter, rows: Iterable[Example], config: SftConfig, renderer: chat.ChatRenderer, counts: Counts
) -> None:
    exact = unique(rows) if config.dedup else None
    kept = exact or iter(rows)
    near = near_unique(kept, config.near_duplicates) if config.near_duplicates is not None else None
    for example in near or kept:
        if teaches_silence(example):
            counts.dropped["empty answer"] += 1
            continue
        tokens, mask = renderer.example(example)
        if len(tokens) > config.max_length:
            counts.cut += 1
            tokens, mask = tokens[: config.max_length], mask[: config.max_length]
        if not any(mask):
            counts.dropped["nothing left to learn after the cut"] += 1
            continue
        writer.append(tokens, mask)
        counts.rows += 1
        counts.tokens += len(tokens)
        counts.trained_tokens += sum(mask)
    for reason, sieve in (("exact duplicate", exact), ("near-duplicate", near)):
        if sieve is not None and sieve.dropped:
            counts.dropped[reason] = sieve.dropped


def teaches_silence(example: Example) -> bool:
    """True if an answer to learn is empty: all it could teach is to end at once."""
    if isinstance(example, Passage):
        return not example.completion.strip()
    return any(message.role == "assistant" and silent(message) for message in example.messages[example.context :])


def clean(rows: Iterable[Example], tasks: list[Task]) -> Iterator[Example]:
    """The rows, unless one of them holds a task of an evaluation: then the stage fails and names both."""
    index = Index(tasks)
    for example in rows:
        match = index.match(example)
        if match is not None:
            raise UserError(
                f"training data holds an evaluation task: {match}",
                fix="Remove the row, or set decontaminate: false and say so with the results.",
            )
        yield example


def evaluation_tasks(context: StageContext) -> list[Task]:
    """The tasks of every evaluate stage of the recipe."""
    sources = [
        s for stage in context.recipe.stages if isinstance(stage.config, EvaluateConfig) for s in stage.config.suites.values()
    ]
    return [task for source in sources for task in tasks_of([source], context)]


def preview(folder: Path, renderer: chat.ChatRenderer, context: StageContext) -> None:
    """Show one row as the model sees it, with what it learns coloured."""
    store = TokenStore(folder)
    if len(store):
        context.reporter.say(chat.preview(*store[0], renderer))
