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

import contextlib
import copy
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from posttrain import chat
from posttrain.core.config import (
    DataSource,
    DistillConfig,
    DpoConfig,
    GraderConfig,
    GrpoConfig,
    KeepConfig,
    LoraConfig,
    MathGrader,
    PpoConfig,
    RewardModelConfig,
    SamplingConfig,
    SftConfig,
    TaskSource,
)
from posttrain.core.protocols import Grader, Reporter
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, Stop
from posttrain.core.types import Conversation, Example, Message, Pair, Passage, Preference, Task
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
from posttrain.models.reward_model import RewardModel
from posttrain.models.save import save_model
from posttrain.models.view import InferenceView
from posttrain.records.rollouts import RolloutRecord, record
from posttrain.rollouts.collect import collect
from posttrain.stages import distill as distill_stage
from posttrain.stages import dpo as dpo_stage
from posttrain.stages import ppo as ppo_stage
from posttrain.stages import reward_model as reward_model_stage
from posttrain.stages.alone import GIVEN, alone, compared, kept
from posttrain.stages.best_of_n import speaks
from posttrain.stages.parts import Given, limits_of, playing_given, run_async, sampler, with_world
from posttrain.stages.rewards import BatchedRewards, scorers_of
from posttrain.stages.rounds import Rounds, watcher
from posttrain.stages.sampled import sampling_of
from posttrain.synthesis.best_of_n import choose
from posttrain.training.driver import Resumed, drive
from posttrain.training.grpo import grpo as grpo_loop
from posttrain.training.policy import Policy
from posttrain.training.sft import sft as sft_loop
from posttrain.training.sft import total_steps

Function = Callable[[Task, str], Any]


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

    def folded(self) -> Loaded:
        """The model with what earlier trainings left in adapters made part of its weights: where the next one starts."""
        fold(self.loaded.model)
        return self.loaded

    def ask(self, question: str, *, max_tokens: int = 128) -> str:
        """One greedy answer."""
        found = answers(self, [Task("question", (Message("user", question),))], [], SamplingConfig(max_tokens=max_tokens), seed=0)
        return found[0].completion


@dataclass(frozen=True)
class Reward:
    """A trained reward model, which is a grader: `graders=[reward]`. `summary` says what it is worth on held-out pairs."""

    trained: RewardModel
    scorer: BatchedRewards
    summary: Mapping[str, Any]

    async def __call__(self, task: Task, answer: str) -> float:
        """The mean of its members' rewards."""
        return fmean(await self.scorer.rewards([*task.messages, Message("assistant", answer)], normalise=False))


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
    environment: Given | None = None,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
) -> Evaluation:
    """Greedy pass rate on tasks, unless `sampling` says otherwise; in episodes where an `environment` is given."""
    records = answers(model, tasks, graders, sampling or SamplingConfig(), seed=seed, environment=environment)
    return Evaluation(records, summarise(records)[""])


def grpo(
    model: Model,
    tasks: Sequence[Task],
    *,
    graders: Sequence[GraderConfig | Function] = (),
    environment: Given | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Reinforcement learning from groups, in place. `settings` are those of a recipe's grpo stage; `run` keeps the records.
    An `environment` (settings such as `ToolsEnvironment`, or a class that makes one from a task) plays each task as an episode.
    Returns the metrics of every step."""
    stand_in = [MathGrader(weight=0)] if graders else []
    configs = [g for g in graders if not callable(g)] or stand_in
    source = [TaskSource(source=GIVEN)]
    config = GrpoConfig(tasks=source, graders=configs, environment=limits_of(environment), lora=model.lora, **settings)
    policy = policy_of(model, config, config.steps * config.epochs * config.minibatches, seed, reference=config.kl.coefficient > 0)
    renderer = chat.renderer(model.loaded.tokenizer)
    engine = sampler(policy.view, renderer)

    async def work() -> list[dict[str, Any]]:
        async with playing_given(environment) as world, composite(graders, environment) as grader:
            rounds = Rounds(config, tasks, engine, renderer, grader, seed, world)
            loop = grpo_loop(policy, engine, rounds.collect, config, seed=seed, start=0, state={})
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


def dpo(
    model: Model, preferences: str | Path | Sequence[Preference], *, seed: int = 0, run: str | Path | None = None, **settings: Any
) -> list[dict[str, Any]]:
    """Learn from preferences, in place: DPO and its relatives (`loss`), on a file or on preferences in memory. Returns the
    metrics of every step."""
    with alone("dpo", run, seed, progress()) as context:
        config = DpoConfig(data=[compared(preferences, context)], lora=model.lora, **settings)
        return dpo_stage.train(config, context, model.folded())[1]


def reward_model(
    model: Model, preferences: str | Path | Sequence[Preference], *, seed: int = 0, run: str | Path | None = None, **settings: Any
) -> Reward:
    """Train a reward model on preferences, from a copy of the model, which stays as it is. The result is a grader."""
    with alone("reward_model", run, seed, progress()) as context:
        config = RewardModelConfig(data=[compared(preferences, context)], lora=model.lora, **settings)
        copied = model.folded()
        body = replace(copied, model=copy.deepcopy(copied.model))
        reward, summary = reward_model_stage.train(config, context, body)
        return Reward(reward, BatchedRewards(reward, "reward model"), summary)


def ppo(
    model: Model,
    tasks: Sequence[Task],
    *,
    graders: Sequence[GraderConfig | Function],
    seed: int = 0,
    run: str | Path | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Reinforcement learning with a critic, in place. Returns the metrics of every step."""
    configs = [g for g in graders if not callable(g)] or [MathGrader(weight=0)]
    config = PpoConfig(tasks=[TaskSource(source=GIVEN)], graders=configs, lora=model.lora, **settings)

    async def work(context: StageContext) -> list[dict[str, Any]]:
        async with composite(graders) as grader:
            return (await ppo_stage.train(config, context, model.folded(), tasks, grader))[1]

    with alone("ppo", run, seed, progress()) as context:
        return run_async(work(context))


def distill(
    model: Model, teacher: Model, tasks: Sequence[Task], *, seed: int = 0, run: str | Path | None = None, **settings: Any
) -> list[dict[str, Any]]:
    """Move the model towards a teacher with the same tokenizer on the model's own answers, in place. Returns the metrics of
    every step."""
    config = DistillConfig(teacher=GIVEN, tasks=[TaskSource(source=GIVEN)], lora=model.lora, **settings)
    with alone("distill", run, seed, progress()) as context:
        return run_async(distill_stage.train(config, context, model.folded(), teacher.loaded, tasks))[1]


def best_of_n(
    model: Model,
    tasks: Sequence[Task],
    *,
    graders: Sequence[GraderConfig | Function],
    samples: int = 8,
    max_tokens: int = 128,
    seed: int = 0,
    **keep: Any,
) -> list[Conversation]:
    """The best of `samples` answers to each task that are good enough to learn from: rows for `sft`. `keep` are the settings of
    a recipe's `keep`."""
    sampling = SamplingConfig(samples=samples, temperature=1.0, max_tokens=max_tokens)
    found, settings = answers(model, tasks, graders, sampling, seed=seed), KeepConfig(**keep)
    questions = {task.id: task.messages for task in tasks}
    return [
        Conversation((*questions[each.task_id], Message("assistant", each.completion)), slices=each.slices)
        for each in choose(found, settings, speaks(settings.language)).kept
    ]


def compare(before: Evaluation, after: Evaluation) -> str:
    """What changed between two evaluations of the same tasks, in one sentence."""
    found = difference(before.records, after.records)[""]
    test = found.test
    return (
        f"pass@1 {percent(before.value)} -> {percent(after.value)}: {points(test.difference)} on {test.n} tasks "
        f"({test.fixed} fixed, {test.regressed} regressed, {probability(test.p_value)})"
    )


def answers(
    model: Model,
    tasks: Sequence[Task],
    graders: Sequence[GraderConfig | Function],
    sampling: SamplingConfig,
    *,
    seed: int,
    environment: Given | None = None,
) -> list[RolloutRecord]:
    renderer = chat.renderer(model.loaded.tokenizer)
    engine = sampler(InferenceView(model.loaded.model), renderer)

    async def work() -> list[RolloutRecord]:
        drawn, begun = sampling_of(sampling), derive(seed, "evaluate")
        async with playing_given(environment) as world, composite(graders, environment) as grader:
            groups = await collect(tasks, engine, renderer, grader, drawn, samples=sampling.samples, seed=begun, world=world)
        return [record(rollout, 0, "", {}) for group in groups for rollout in group.rollouts]

    return run_async(work())


@contextlib.asynccontextmanager
async def composite(given: Sequence[GraderConfig | Function], environment: Given | None = None) -> AsyncIterator[Grader]:
    """Settings, plain functions and the environment's own grade as one grader, closed at the end."""
    configs: list[GraderConfig] = [g for g in given if not callable(g)]
    functions = [part(g) for g in given if callable(g)]
    built = build(configs, base=Path(), scorers=scorers_of(configs, {})).parts if configs else ()
    grader = with_world(Composite([*built, *functions]) if given or environment is None else None, limits_of(environment))
    try:
        yield grader
    finally:
        await grader.aclose()


def policy_of(model: Model, config: GrpoConfig | SftConfig, total: int, seed: int, *, reference: bool = False) -> Policy:
    return Policy(model.folded(), config, total_steps=total, seed=seed, reference=reference)


def progress() -> Reporter:
    from posttrain.cli.progress import reporter

    return reporter()


__all__ = [
    "Conversation",
    "Evaluation",
    "Message",
    "Model",
    "Pair",
    "Passage",
    "Preference",
    "Reward",
    "Task",
    "Tasks",
    "best_of_n",
    "compare",
    "distill",
    "dpo",
    "evaluate",
    "grpo",
    "load",
    "ppo",
    "reward_model",
    "sft",
    "tasks",
]
