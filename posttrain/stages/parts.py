"""What several kinds of stage build: the sampler, the grader, the tasks, and the saved model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from posttrain import chat, environments, graders, sandbox
from posttrain.core.config import CodeGrader, EnvironmentConfig, GraderConfig, OwnEnvironment, PythonTool, TaskSource
from posttrain.core.errors import UserError
from posttrain.core.protocols import EnvironmentFactory, Grader
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext
from posttrain.core.types import Task
from posttrain.data.tasks import load_tasks
from posttrain.generation.native import NativeEngine
from posttrain.graders.world import WorldAndGraders
from posttrain.models.load import Loaded, load
from posttrain.models.lora import save_adapter
from posttrain.models.memory import keep_memory
from posttrain.models.save import save_model
from posttrain.models.view import InferenceView
from posttrain.records.events import append_event
from posttrain.records.files import saving
from posttrain.records.paths import StagePaths
from posttrain.rollouts.environment import World
from posttrain.stages.judges import judge_models, require_trusted
from posttrain.stages.rewards import scorers_of
from posttrain.training.policy import Policy

T = TypeVar("T")
HERE = Path()


def model_of(reference: str, context: StageContext) -> Loaded:
    """Load the model that a stage's `model` setting stands for."""
    keep_memory()
    return load(context.references[reference])


def sampler(view: InferenceView, renderer: chat.ChatRenderer) -> NativeEngine:
    return NativeEngine(view, renderer.decode, renderer.stop_ids)


def tasks_of(sources: Sequence[TaskSource], context: StageContext) -> list[Task]:
    return load_tasks(sources, references=context.references, base=HERE, seed=derive(context.seed, "tasks"))


@contextlib.asynccontextmanager
async def grading(
    configs: Sequence[GraderConfig],
    tasks: Sequence[Task],
    context: StageContext,
    *,
    tokenizer: Any = None,
    environment: EnvironmentConfig | None = None,
) -> AsyncIterator[Grader]:
    """The stage's grader, proven on its tasks before it is used, and closed with all its processes after.

    Tasks whose reference fails are refused; bad answers that pass are holes in the reward, and are said and recorded. Reward
    models made for another `tokenizer` than that of the model whose answers are graded are refused. An `environment` that judges
    is one part of the grade, or the whole of it.
    """
    for hole in graders.selftest(configs, tasks, base=HERE).problems:
        append_event(StagePaths(context.directory).events, "warning", severity="warn", monitor="grader self-test", text=hole)
        context.reporter.say(f"grader self-test: {hole}")
    require_trusted(configs, context)
    async with judge_models(configs, context.references, StagePaths(context.directory).replies) as models:
        scorers = scorers_of(configs, context.references, tokenizer)
        judged = graders.build(configs, base=HERE, scorers=scorers, chat_models=models) if configs else None
        if environment is not None and judged is not None and judged.by_group:
            raise UserError("a judge that compares a group grades single answers, not episodes.", fix="Give it criteria.")
        grader = with_world(judged, environment)
        try:
            say_sandbox(configs, environment, context)
            yield grader
        finally:
            await grader.aclose()


def say_sandbox(configs: Sequence[GraderConfig], environment: EnvironmentConfig | None, context: StageContext) -> None:
    """Print and record which sandbox this stage's programs run in; that they run in none taints the stage's records."""
    tools = getattr(environment, "tools", ())
    if not any(isinstance(each, CodeGrader | PythonTool) for each in (*configs, *tools)):
        return
    used, events = sandbox.choose(), StagePaths(context.directory).events
    append_event(events, "sandbox", backend=used.name, walls=used.description, safe=used.safe)
    context.reporter.say(f"sandbox: {used.name} ({used.description})")
    if not used.safe:
        append_event(events, "warning", severity="warn", monitor="sandbox", text=f"{used.description}; grades cannot be trusted")


def with_world(judged: graders.Composite | None, environment: EnvironmentConfig | None) -> WorldAndGraders | graders.Composite:
    judges = environment if environment is not None and environment.judges() else None
    assert judged is not None or judges is not None, "the settings' own check asks for one of them"
    grader = WorldAndGraders(judges, judged) if judges is not None else judged
    assert grader is not None
    return grader


@contextlib.asynccontextmanager
async def playing(environment: EnvironmentConfig | None) -> AsyncIterator[World | None]:
    """The world a stage's tasks are played in, and its end; None where tasks are answered in a single turn."""
    if environment is None:
        yield None
        return
    prepared = environments.build(environment, base=HERE)
    try:
        yield World(prepared.make, environment)
    finally:
        await prepared.aclose()


Given = EnvironmentConfig | EnvironmentFactory
"""Where tasks are played, as a script says it: settings, or a class of its own that makes an environment from a task."""


def limits_of(environment: Given | None) -> EnvironmentConfig | None:
    """The settings of its episodes; a class of the script's own has the usual limits."""
    return OwnEnvironment(path="./given.py:given") if callable(environment) else environment


@contextlib.asynccontextmanager
async def playing_given(environment: Given | None) -> AsyncIterator[World | None]:
    """As `playing`, of what a script gave."""
    limits = limits_of(environment)
    if callable(environment) and limits is not None:
        yield World(environment, limits)
        return
    async with playing(limits) as world:
        yield world


def save_policy(policy: Policy, parent: Path, paths: StagePaths, *, adapter: bool = True) -> dict[str, Path]:
    """Write `model/`, and `adapter/` where there is one, each whole or not at all. Without `adapter` only the model: where a
    stage changed more than an adapter can carry."""
    artefacts = {"model": paths.model}
    with saving(paths.model) as folder:
        save_model(policy.model, policy.tokenizer, folder)
    if policy.config.lora is not None and adapter:
        with saving(paths.adapter) as folder:
            save_adapter(policy.model, folder, base=base_reference(parent, paths))
        artefacts["adapter"] = paths.adapter
    return artefacts


def base_reference(parent: Path, paths: StagePaths) -> str:
    """The adapter's base: relative where it lies in the same run, so that a run can be moved; else where it is."""
    run = paths.directory.parent
    while run.name and not (run / "recipe.yaml").exists() and run != run.parent:
        run = run.parent
    if parent.resolve().is_relative_to(run.resolve()) and run != run.parent:
        return os.path.relpath(parent.resolve(), paths.adapter.resolve())
    return str(parent)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where a loop is running already (a notebook), in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # carried to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=target, name="posttrain")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
