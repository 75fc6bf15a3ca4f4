"""run, check, resume, recipes, schema."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posttrain.cli.options import RUNS, Json, Name, Runs, Scale, Set
from posttrain.cli.show import console, duration, harmless, pass_at_one, print_json, table
from posttrain.core.errors import UserError

if TYPE_CHECKING:
    from posttrain.core.config import GraderConfig, Recipe
    from posttrain.core.types import Task
    from posttrain.pipeline.check import Report
    from posttrain.pipeline.parse import Document
    from posttrain.records.summary import RunSummary

RecipeArgument = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A recipe that comes with posttrain, or a YAML file.")]


def run(
    recipe: RecipeArgument,
    scale: Scale = None,
    set_: Set = None,
    name: Name = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Run a recipe, or go on with it: finished stages are skipped, an unfinished one resumes."""
    from posttrain.cli.preview import training_example
    from posttrain.pipeline import check as checks
    from posttrain.pipeline.parse import load_document

    document = load_document(recipe, scale=scale, overrides=set_ or ())
    report = checks.check(document.recipe, runs, locate=document.locate, prove=prove)
    checks.require_space(report)
    training_example(document.recipe)  # refuses a chat template that cannot be learnt from, before any stage runs
    _run(document.recipe, runs, name, as_json)


def resume(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")], runs: Runs = RUNS, as_json: Json = False
) -> None:
    """Go on with a run that was stopped, with the recipe it began with."""
    from posttrain.pipeline.run import load_run

    _run(load_run(name, runs), runs, name, as_json)


def _run(recipe: Recipe, runs: Path, name: str | None, as_json: bool) -> None:
    from posttrain.cli.progress import reporter
    from posttrain.cli.stopping import stoppable
    from posttrain.pipeline.run import run as run_recipe

    progress = reporter()
    with stoppable() as stop:
        try:
            summary = run_recipe(recipe, runs, name=name, reporter=progress, stop=stop, report=build_report())
        finally:
            progress.finish()
    if as_json:
        print_json(dataclasses.asdict(summary))
    else:
        _show_summary(summary, runs)


def build_report() -> Callable[[Path], Path]:
    """The report's writer, loaded only when it is called: it draws charts."""

    def build(root: Path) -> Path:
        from posttrain.diagnosis.report import build

        return build(root)

    return build


def prove(configs: Sequence[GraderConfig], tasks: Sequence[Task]) -> None:
    """Let graders prove themselves on a few tasks; refuse those that accept what they must not."""
    from posttrain.graders import selftest

    result = selftest(configs, tasks, base=Path())
    if not result.ok:
        raise UserError(
            f"the graders accept what they must not: {'; '.join(result.problems)}.",
            fix="Choose stricter ones; try `posttrain graders test`.",
        )


def _show_summary(summary: RunSummary, runs: Path) -> None:
    rows = []
    for stage in summary.stages:
        measured = "; ".join(f"{suite} {pass_at_one(found)}" for suite, found in stage.evaluations.items())
        rows.append((stage.id, stage.kind, stage.status, duration(stage.wall_s), measured))
    table(
        ("stage", "kind", "status", "time", "pass@1 (95 % interval)"),
        rows,
        title=f"{summary.name} on {summary.model}",
        right=("time",),
    )
    report = runs / summary.name / "report.html"
    if report.exists():
        print(f"report: {report}")


def check(
    recipe: RecipeArgument,
    scale: Scale = None,
    set_: Set = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Find what is wrong with a recipe, and say what running it would do and take. Runs nothing."""
    from posttrain.pipeline import check as checks
    from posttrain.pipeline.parse import load_document
    from posttrain.pipeline.validate import plain

    document = load_document(recipe, scale=scale, overrides=set_ or ())
    report = checks.check(document.recipe, runs, locate=document.locate, prove=prove)
    if as_json:
        stages = [{"id": s.id, "kind": s.kind, **plain(s.config)} for s in document.recipe.stages]
        estimates = [dataclasses.asdict(each) if each else None for each in report.estimates]
        value = {**plain(document.recipe), "stages": stages}
        print_json({"recipe": value, "plan": report.plan, "estimates": estimates, "remarks": report.remarks, "free": report.free})
        return
    _show_check(report, document, set_ or [])


def _show_check(report: Report, document: Document, overrides: list[str]) -> None:
    from posttrain.cli.preview import training_example
    from posttrain.pipeline.check import size
    from posttrain.pipeline.parse import to_yaml
    from posttrain.pipeline.shorten import shortened

    recipe = report.recipe
    print(harmless(to_yaml(shortened(recipe))))
    rows = []
    for stage, plan, estimate in zip(recipe.stages, report.plan, report.estimates, strict=True):
        took = (duration(estimate.seconds), size(estimate.memory), size(estimate.disk)) if estimate else ("?", "?", "?")
        rows.append((stage.id, plan, *took))
    if report.whole is not None:
        rows.append(("all", "", duration(report.whole.seconds), size(report.whole.memory), size(report.whole.disk)))
    numbers = ("time", "memory", "disk")
    table(
        ("stage", "what it does", *numbers),
        rows,
        right=numbers,
        title="Plan. Times are rough estimates for two CPU cores, memory and disk upper guesses.",
    )
    for remark in report.remarks:
        print(f"note: {harmless(remark)}")
    if example := training_example(recipe):
        console().print(f"\n[bold]One training example[/bold] (coloured: what is learnt)\n{example}\n")
    options = [*(["--scale", recipe.scale] if recipe.scale else []), *(part for each in overrides for part in ("--set", each))]
    print(f"No fault found. Run it with: {shlex.join(['posttrain', 'run', str(document.source), *options])}")


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe's file, to copy and change.")] = None, as_json: Json = False
) -> None:
    """List the recipes that come with posttrain, or print one."""
    from posttrain.pipeline import tree
    from posttrain.pipeline.parse import find, shipped

    if name is not None:
        print(find(name).read_text(encoding="utf-8"), end="")
        return
    found: list[dict[str, Any]] = []
    for known, path in shipped().items():
        top = tree.read(path)
        found.append(
            {"name": known, "source": top.get("source"), "scales": list(top.get("scales") or ()), "tradeoff": top.get("tradeoff")}
        )
    if as_json:
        print_json(found)
        return
    rows = [(each["name"], ", ".join(each["scales"]), str(each["source"]), str(each["tradeoff"])) for each in found]
    table(("recipe", "scales", "source", "trade-off"), rows)


def schema() -> None:
    """Print the JSON schema of recipe files, for editors."""
    from posttrain.pipeline.schema import schema as make

    print_json(make())
