"""report, compare, diagnose: from the records of runs alone. No model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posttrain.cli.options import RUNS, Json, Runs, stage_folder, stages_of
from posttrain.cli.show import harmless, percent, print_json, table
from posttrain.core.errors import UserError

if TYPE_CHECKING:
    from posttrain.diagnosis.findings import SuiteDiagnosis

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, or its folder.")]
SHOWN = 20


def report(run: RunArgument, runs: Runs = RUNS) -> None:
    """Write a run's report.html again, from its records."""
    from posttrain.diagnosis.report import build

    print(build(_run_folder(run, runs)))


def compare(
    before: Annotated[
        str, typer.Argument(metavar="A", help="RUN/STAGE, or RUN for its last evaluation (first, if B is not given).")
    ],
    after: Annotated[str | None, typer.Argument(metavar="[B]", help="What to compare with A.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Compare two evaluations of the same tasks: what was fixed, what regressed, and whether that could be chance."""
    from posttrain import diagnosis
    from posttrain.evaluation import difference
    from posttrain.records.rollouts import read_rollouts

    if after is None:
        measured = stages_of(_run_folder(before, runs), "evaluate")
        first, last = measured[0], measured[-1]
    else:
        first, last = stage_folder(before, runs, "evaluate"), stage_folder(after, runs, "evaluate")
    found = difference(read_rollouts(_rollouts(first)), read_rollouts(_rollouts(last)))
    if not found:
        raise UserError(f"{first.name} and {last.name} have no suite in common.", fix="Compare two evaluations of the same suites.")
    if as_json:
        print_json({"before": str(first), "after": str(last), "suites": {suite: each.to_json() for suite, each in found.items()}})
        return
    print(harmless(diagnosis.compare(first, last).text()))


def _limits(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "-"
    return f"{100 * low:.1f} to {100 * high:.1f}"


def diagnose(
    stage: Annotated[str, typer.Argument(metavar="RUN[/STAGE]", help="An evaluation; of a run, its last.")],
    before: Annotated[
        str | None, typer.Option("--before", help="An earlier evaluation, to see what was fixed and what regressed.")
    ] = None,
    examples: Annotated[int, typer.Option("--examples", min=0, help="Examples of each kind of failure.")] = 1,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Say where and how a model fails, by slice and kind of failure, with examples."""
    from posttrain.diagnosis import diagnose as find
    from posttrain.records.rollouts import read_rollouts

    folder = stage_folder(stage, runs, "evaluate")
    earlier = read_rollouts(_rollouts(stage_folder(before, runs, "evaluate"))) if before else None
    found = find(read_rollouts(_rollouts(folder)), before=earlier, examples=max(examples, 1))
    if as_json:
        print_json(found.to_json())
        return
    for suite, each in found.suites.items():
        _show_suite(f"{_name(folder)}: {suite}", each, examples)


def _show_suite(title: str, found: SuiteDiagnosis, examples: int) -> None:
    rows = [
        (
            cell.slice,
            cell.code,
            f"{cell.count} of {cell.of}",
            percent(cell.share.value),
            _limits(cell.share.low, cell.share.high),
        )
        for cell in found.cells
    ]
    right = ("failures", "share", "95 % interval")
    table(("slice", "failure", *right), rows[:SHOWN], title=f"{title}, {found.failed} of {found.judged} fail", right=right)
    if len(rows) > SHOWN:
        print(f"… {len(rows) - SHOWN} more; see --json")
    for line in found.advice:
        print(f"advice: {harmless(line)}")
    shown = [key for cell in found.cells if cell.slice == "all" for key in cell.examples[:examples]] if examples else []
    for key in dict.fromkeys(shown):
        one = found.examples[key]
        question = one.prompt[-1]["content"] if one.prompt else ""
        print(f"\n[{one.code}] {harmless(question)}")
        print(f"  expected {harmless(str(one.reference))}, answered: {harmless(one.completion)[:500]}")


def _run_folder(text: str, runs: Path) -> Path:
    path = Path(text).expanduser()
    for folder in (path, runs / text):
        if (folder / "recipe.yaml").is_file():
            return folder
    known = sorted(each.parent.name for each in runs.glob("*/recipe.yaml"))
    raise UserError(f"there is no run {text!r} in {runs}.", fix=f"Runs there: {', '.join(known) or 'none'}.")


def _rollouts(stage: Path) -> Path:
    from posttrain.records.paths import StagePaths

    folder = StagePaths(stage).rollouts
    if not any(folder.glob("*.parquet")):
        raise UserError(f"{stage} has no rollouts.", fix="Name a stage of kind evaluate that has run.")
    return folder


def _name(stage: Path) -> str:
    return "/".join(stage.parts[-2:])
