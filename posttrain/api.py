"""The Python face: the same parts as a recipe's stages, on objects in memory, in a script or a notebook.

import posttrain as pt

model = pt.load("smollm2-135m-instruct", lora=16)
tasks = pt.tasks("arithmetic", train=2000, test=200, seed=0)
before = pt.evaluate(model, tasks.test)
pt.grpo(model, tasks.train, graders=[pt.graders.math()], steps=25)
print(pt.compare(before, pt.evaluate(model, tasks.test)))
model.save("out")
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain import chat
from posttrain.core.config import (
    DataSource,
    GraderConfig,
    GrpoConfig,
    LoraConfig,
    MathGrader,
    SamplingConfig,
    SftConfig,
    TaskSource,
)
from posttrain.core.protocols import Reporter
from posttrain.core.seeds import derive
from posttrain.core.stage import Stop
from posttrain.core.types import Conversation, Example, Passage, Task
from posttrain.data import builtin, examples
from posttrain.diagnosis.show import limits, percent, points, probability
from posttrain.evaluation import difference, summarise
from posttrain.graders.build import build
from posttrain.graders.combine import Composite
from posttrain.graders.in_process import part
from posttrain.models.load import Loaded
from posttrain.models.load import load as load_model
from posttrain.models.lora import fold
from posttrain.models.memory import keep_memory
from posttrain.models.save import save_model
from posttrain.models.view import InferenceView
from posttrain.records.paths import StagePaths
from posttrain.records.rollouts import RolloutRecord, record
from posttrain.rollouts.collect import collect
from posttrain.stages.parts import run_async, sampler
from posttrain.stages.rewards import scorers_of
from posttrain.stages.rounds import Rounds, watcher
from posttrain.stages.sampled import sampling_of
from posttrain.training.driver import Resumed, drive
from posttrain.training.grpo import grpo as grpo_loop
from posttrain.training.policy import Policy
from posttrain.training.sft import sft as sft_loop
from posttrain.training.sft import total_steps

Function = Callable[[Task, str], Any]
GIVEN = "given in Python"


@dataclass
class Model:
    """A model in memory. Training changes it in place; each training starts from what the one before left."""

    loaded: Loaded
    lora: LoraConfig | None

    def save(self, folder: str | Path) -> Path:
        """Write a directory that transformers, vLLM and posttrain load as it is."""
        path = Path(folder)
        save_model(self.loaded.model, self.loaded.tokenizer, path)
        return path

    def ask(self, question: str, *, max_tokens: int = 128) -> str:
        """One greedy answer."""
        from posttrain.core.types import Message

        found = answers(self, [Task("question", (Message("user", question),))], [], SamplingConfig(max_tokens=max_tokens), seed=0)
        return found[0].completion


@dataclass(frozen=True)
class Tasks:
    """Tasks to train on and tasks to test on, which never overlap."""

    train: Sequence[Task]
    test: Sequence[Task]


@dataclass(frozen=True)
class Evaluation:
    """What a model answered and what became of it. Prints as its pass rate."""

    records: Sequence[RolloutRecord]
    summary: Mapping[str, Any]

    @property
    def value(self) -> float | None:
        """pass@1"""
        found: float | None = self.summary["pass@1"]["value"]
        return found

    def __str__(self) -> str:
        return f"pass@1 {percent(self.value)} ({limits(self.summary['pass@1'])}), {self.summary['pass@1']['n']} tasks"


def load(reference: str, *, lora: int | LoraConfig | None = 16) -> Model:
    """Load a model: a known name, a directory, a GGUF file or a hub id. `lora` is the rank of its adapters; None trains all."""
    keep_memory()
    return Model(load_model(reference), LoraConfig(rank=lora, alpha=2.0 * lora) if isinstance(lora, int) else lora)


def tasks(name: str, *, train: int = 2000, test: int = 200, seed: int = 0, **options: Any) -> Tasks:
    """A built-in task set: arithmetic, word_problems, lookup or strings. `options` are the set's own."""
    return Tasks(
        builtin.tasks(name, split="train", count=train, seed=seed, options=options),
        builtin.tasks(name, split="test", count=test, seed=seed, options=options),
    )


def evaluate(
    model: Model,
    tasks: Sequence[Task],
    *,
    graders: Sequence[GraderConfig | Function] = (MathGrader(),),
    sampling: SamplingConfig | None = None,
    seed: int = 0,
) -> Evaluation:
    """Greedy pass rate on tasks, unless `sampling` says otherwise."""
    records = answers(model, tasks, graders, sampling or SamplingConfig(), seed=seed)
    return Evaluation(records, summarise(records)[""])


def grpo(
    model: Model,
    tasks: Sequence[Task],
    *,
    graders: Sequence[GraderConfig | Function],
    seed: int = 0,
    run: str | Path | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Reinforcement learning from groups, in place. `settings` are those of a recipe's grpo stage; `run` keeps the records.
    Returns the metrics of every step."""
    configs = [g for g in graders if not callable(g)] or [MathGrader(weight=0)]
    config = GrpoConfig(tasks=[TaskSource(source=GIVEN)], graders=configs, lora=model.lora, **settings)
    policy = policy_of(model, config, config.steps * config.epochs * config.minibatches, seed, reference=config.kl.coefficient > 0)
    renderer = chat.renderer(model.loaded.tokenizer)
    engine = sampler(policy.view, renderer)

    async def work() -> list[dict[str, Any]]:
        grader = composite(graders)
        try:
            source = Rounds(config, tasks, engine, renderer, grader, seed)
            loop = grpo_loop(policy, engine, source.collect, config, seed=seed, start=0, state={})
            with kept(run) as paths:
                return await drive(
                    loop,
                    policy,
                    paths,
                    config,
                    start=Resumed(),
                    total=config.steps,
                    reporter=progress(),
                    stop=Stop(),
                    watch=watcher(config),
                    title="grpo",
                )
        finally:
            await grader.aclose()

    return run_async(work())


def sft(
    model: Model, data: str | Path | Sequence[Example], *, seed: int = 0, run: str | Path | None = None, **settings: Any
) -> list[dict[str, Any]]:
    """Supervised fine-tuning, in place, on a file or on conversations in memory. Returns the metrics of every step."""
    config = SftConfig(data=[DataSource(source=str(data) if isinstance(data, str | Path) else GIVEN)], lora=model.lora, **settings)
    renderer = chat.renderer(model.loaded.tokenizer)
    found = examples(config.data, references={}, base=Path(), seed=seed) if isinstance(data, str | Path) else data
    rows = [(tokens[: config.max_length], mask[: config.max_length]) for tokens, mask in map(renderer.example, found)]
    total = total_steps(config, len(rows))
    policy = policy_of(model, config, total, seed)
    loop = sft_loop(policy, rows, range(config.validation, len(rows)), range(config.validation), config, seed=seed, start=0)

    async def work() -> list[dict[str, Any]]:
        with kept(run) as paths:
            return await drive(
                loop, policy, paths, config, start=Resumed(), total=total, reporter=progress(), stop=Stop(), title="sft"
            )

    return run_async(work())


def compare(before: Evaluation, after: Evaluation) -> str:
    """What changed between two evaluations of the same tasks, in one sentence."""
    found = difference(before.records, after.records)[""]
    test = found.test
    return (
        f"pass@1 {percent(before.value)} -> {percent(after.value)}: {points(test.difference)} on {test.n} tasks "
        f"({test.fixed} fixed, {test.regressed} regressed, {probability(test.p_value)})"
    )


def answers(
    model: Model, tasks: Sequence[Task], graders: Sequence[GraderConfig | Function], sampling: SamplingConfig, *, seed: int
) -> list[RolloutRecord]:
    renderer = chat.renderer(model.loaded.tokenizer)
    engine = sampler(InferenceView(model.loaded.model), renderer)

    async def work() -> list[RolloutRecord]:
        grader = composite(graders)
        try:
            groups = await collect(
                tasks, engine, renderer, grader, sampling_of(sampling), samples=sampling.samples, seed=derive(seed, "evaluate")
            )
        finally:
            await grader.aclose()
        return [record(rollout, 0, "", {}) for group in groups for rollout in group.rollouts]

    return run_async(work())


def composite(given: Sequence[GraderConfig | Function]) -> Composite:
    """Settings and plain functions as one grader."""
    configs: list[GraderConfig] = [g for g in given if not callable(g)]
    functions = [part(g) for g in given if callable(g)]
    built = build(configs, base=Path(), scorers=scorers_of(configs, {})).parts if configs else ()
    return Composite([*built, *functions])


def policy_of(model: Model, config: GrpoConfig | SftConfig, total: int, seed: int, *, reference: bool = False) -> Policy:
    fold(model.loaded.model)
    return Policy(model.loaded, config, total_steps=total, seed=seed, reference=reference)


class kept:
    """The folder of a training's records: the one asked for, or a temporary one that goes with the block."""

    def __init__(self, run: str | Path | None) -> None:
        self.run, self.temporary = run, None if run else tempfile.TemporaryDirectory()

    def __enter__(self) -> StagePaths:
        return StagePaths(Path(self.temporary.name) if self.temporary else Path(str(self.run)))

    def __exit__(self, *_: object) -> None:
        if self.temporary:
            self.temporary.cleanup()


def progress() -> Reporter:
    from posttrain.cli.progress import reporter

    return reporter()


__all__ = [
    "Conversation",
    "Evaluation",
    "Model",
    "Passage",
    "Task",
    "Tasks",
    "compare",
    "evaluate",
    "grpo",
    "load",
    "sft",
    "tasks",
]
