"""eval, chat."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posttrain.cli.options import RUNS, Json, Name, Runs, model_reference
from posttrain.cli.show import harmless, pass_at_one, print_json, table
from posttrain.core.errors import UserError

if TYPE_CHECKING:
    from posttrain.core.config import Recipe, TaskSource

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A known name, a directory, run:<name>/<stage>, or a hub id.")]
WITH_SETTINGS = ("function", "reward_model", "judge")
"""Graders that mean nothing without settings of their own."""
GOODBYE = ("/quit", "/exit")


def evaluate(
    model: ModelArgument,
    suite: Annotated[
        list[str], typer.Option("--suite", metavar="[NAME=]SOURCE", help="builtin:<set> or a file of tasks. Repeatable.")
    ],
    grader: Annotated[list[str] | None, typer.Option("--grader", help="What decides. Repeatable; math if not given.")] = None,
    count: Annotated[int, typer.Option(help="Tasks of each suite.")] = 256,
    split: Annotated[str, typer.Option(help="test or train; the part of a built-in set.")] = "test",
    system: Annotated[str | None, typer.Option(help="System prompt before each task.")] = None,
    samples: Annotated[int, typer.Option(help="Answers per task.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(help="Longest answer in tokens.")] = 128,
    seed: Annotated[int, typer.Option(help="Root of all randomness.")] = 0,
    name: Name = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Measure a model. Kept as a run, so `compare`, `diagnose` and `report` work on it."""
    from posttrain.cli.progress import reporter
    from posttrain.cli.runs import build_report, prove
    from posttrain.cli.stopping import stoppable
    from posttrain.pipeline.check import check
    from posttrain.pipeline.run import run

    sampling = {"samples": samples, "temperature": temperature, "max_tokens": max_tokens}
    sources = _suites(suite, count=count, split=split, system=system, seed=seed)
    recipe = _recipe(model_reference(model), sources, grader or ["math"], sampling, seed)
    check(recipe, runs, prove=prove)
    progress = reporter()
    with stoppable() as stop:
        summary = run(recipe, runs, name=name or recipe.name, reporter=progress, stop=stop, report=build_report())
    measured = summary.stages[0].evaluations
    if as_json:
        print_json({"model": recipe.model, "run": summary.name, "evaluations": measured})
        return
    rows = [
        (key, pass_at_one(found), str((found.get("pass@1") or {}).get("n", "")), f"{found.get('mean_tokens', 0):.1f}")
        for key, found in measured.items()
    ]
    table(("suite", "pass@1 (95 % interval)", "tasks", "tokens"), rows, title=recipe.model, right=("tasks", "tokens"))
    print(f"kept in {runs / summary.name}")


def _suites(given: list[str], **settings: Any) -> dict[str, TaskSource]:
    from posttrain.core.config import TaskSource
    from posttrain.pipeline.references import is_builtin

    found: dict[str, TaskSource] = {}
    for text in given:
        name, equals, source = text.rpartition("=")
        path = Path(source).expanduser()
        name = name if equals else source.removeprefix("builtin:") if is_builtin(source) else path.stem
        name = re.sub(r"[^A-Za-z0-9._-]", "-", name)
        if name in found:
            raise UserError(f"two suites are called {name!r}.", fix="Give one another name: --suite NAME=SOURCE.")
        try:
            found[name] = TaskSource(source=source if is_builtin(source) else str(path.resolve()), **settings)
        except ValueError as error:
            raise UserError(f"--suite {text}: {error}.", fix="Change that option.") from None
    return found


def _recipe(model: str, suites: dict[str, TaskSource], graders: list[str], sampling: dict[str, Any], seed: int) -> Recipe:
    """A recipe of one stage; what is left out in the command line has the settings' own checks."""
    from posttrain.core.config import EvaluateConfig, Recipe, SamplingConfig, Stage
    from posttrain.pipeline.settings import GRADERS
    from posttrain.pipeline.tree import nearest

    for kind in graders:
        if kind not in GRADERS or kind in WITH_SETTINGS:
            known = sorted(set(GRADERS) - set(WITH_SETTINGS))
            near = nearest(kind, known)
            raise UserError(
                f"--grader {kind} is not one that needs no settings.",
                fix=f"Did you mean {near}?" if near else f"Choose of {', '.join(known)}.",
            )
    try:
        chosen = [GRADERS[kind]() for kind in graders]
        config = EvaluateConfig(suites=suites, graders=tuple(chosen), sampling=SamplingConfig(**sampling))
    except ValueError as error:
        raise UserError(f"{error}.", fix="Change that option.") from None
    name = "eval-" + (re.sub(r"[^A-Za-z0-9._-]+", "-", model.removeprefix(str(Path.cwd()))).strip("-.") or "model")
    return Recipe(
        name=name,
        source="posttrain eval",
        tradeoff="Measures a model and changes nothing.",
        model=model,
        seed=seed,
        stages=(Stage(id="evaluate", config=config),),
    )


def chat(
    model: ModelArgument,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 256,
    seed: Annotated[int, typer.Option(help="Root of all randomness.")] = 0,
    runs: Runs = RUNS,
) -> None:
    """Talk to a model in the terminal. /reset forgets what was said, /quit or Ctrl-D ends."""
    from posttrain.core.types import Message, Sampling
    from posttrain.pipeline.models import require_model
    from posttrain.pipeline.references import artefact, is_run, run_stage

    reference = model_reference(model)
    if is_run(reference):
        reference = artefact(run_stage(reference, runs), "model")
    require_model(reference)
    answer = _speaker(reference, Sampling(temperature=temperature, max_tokens=max_tokens))
    opening = [Message("system", system)] if system else []
    said, turn = list(opening), 0
    asking = sys.stdin.isatty()
    if asking:
        print(f"{reference}. /reset forgets what was said, /quit or Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            line = input("you> " if asking else "").strip()
        except EOFError:
            return
        if line in GOODBYE:
            return
        if line == "/reset":
            said = list(opening)
        elif line:
            said.append(Message("user", line))
            said.append(answer(said, seed + turn))
            turn += 1
            print(harmless(said[-1].content), flush=True)


def _speaker(reference: str, sampling: Any) -> Any:
    """Load the model; gives a function from the conversation so far to the assistant's next message."""
    import asyncio

    from posttrain.chat import renderer as renderer_for
    from posttrain.generation.native import NativeEngine
    from posttrain.models.load import load
    from posttrain.models.view import InferenceView

    loaded = load(reference)
    renderer = renderer_for(loaded.tokenizer)
    engine = NativeEngine(InferenceView(loaded.model), renderer.decode, renderer.stop_ids)

    def answer(messages: Any, seed: int) -> Any:
        completion = asyncio.run(engine.generate(renderer.prompt(messages), sampling, seed=seed))
        return renderer.parse(completion.text)

    return answer
