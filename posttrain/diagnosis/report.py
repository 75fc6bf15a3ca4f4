"""report.html of a run: one file, no script, nothing loaded from elsewhere, built from records alone.

The page forbids scripts and outside content by its own policy (a meta tag), and every text of a model, a task or a recipe goes
through jinja2's escaping and `show.visible`. Works for a run that is unfinished, failed or has a single stage.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from posttrain.core.config import STAGE_KINDS
from posttrain.diagnosis import sections, show
from posttrain.diagnosis.findings import Diagnosis, diagnose
from posttrain.diagnosis.load import RunView, StageView, load_run
from posttrain.diagnosis.patch import patch
from posttrain.diagnosis.selection import selections
from posttrain.diagnosis.stage_facts import stage_facts
from posttrain.diagnosis.verdict import Remark, SuiteVerdict, remarks, suite_verdicts
from posttrain.records.files import write_atomic

if TYPE_CHECKING:
    from posttrain.records.rollouts import RolloutRecord

TEMPLATES = Path(__file__).parent / "templates"
EXAMPLES = 5
MAKES_MODEL = {kind for kind, config in STAGE_KINDS.items() if "model" in config.roles}


def build(run_directory: Path) -> Path:
    """Write `report.html` into the run's folder and return its path. Raises UserError if the folder holds no run."""
    run = load_run(run_directory)
    write_atomic(run.paths.report, render(run))
    return run.paths.report


def render(run: RunView) -> str:
    """The page as text."""
    evaluated = run.evaluations
    before, explained = _explained(run)
    ends = {stage.id for stage in (*evaluated[:1], *evaluated[-1:], before, explained) if stage is not None}
    rollouts = {stage.id: run.rollouts(stage) for stage in evaluated if stage.id in ends or _starts_a_suite(stage, evaluated)}
    suites = suite_verdicts(run, rollouts)
    diagnosis = _diagnosis(before, explained, rollouts)
    trained = [stage for stage in run.stages if stage.metrics]
    charts = [(stage, sections.panels(stage, index)) for index, stage in enumerate(trained)]
    shown = sections.shown_rollouts(run)
    found = remarks(run, suites)
    page = {
        "run": run,
        "now": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "status": _status(run),
        "headline": _headline(run, suites),
        "suites": suites,
        "remarks": found,
        "facts": _facts(run, found, diagnosis),
        "wall_s": sum(stage.wall_s or 0.0 for stage in run.stages),
        "models": _models(run),
        "tables": sections.suite_tables(run, rollouts),
        "charts": [(stage, panels) for stage, panels in charts if panels],
        "selections": selections(run),
        "stage_facts": stage_facts(run),
        "times": sections.time_bars(run),
        "shown": shown,
        "diagnosis": diagnosis,
        "heat": {name: sections.heat_table(suite) for name, suite in diagnosis.suites.items()},
        "diagnosed": explained.id if explained is not None else "",
        "patch": patch(diagnosis),
        "patches": [stage.paths.tasks for stage in run.stages if stage.paths.tasks.is_file()],
        "recipe_text": run.paths.recipe.read_text(encoding="utf-8", errors="replace") if run.paths.recipe.is_file() else "",
        "versions": _versions(run),
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # ours, and never a user's text
    }
    return _environment().get_template("report.html.jinja").render(page)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "visible": show.visible,
        "folded": show.folded,
        "percent": show.percent,
        "points": show.points,
        "limits": show.limits,
        "probability": show.probability,
        "number": show.number,
        "duration": show.duration,
        "shared": show.shared,
        "json": show.as_json,
    }
    return environment


def _starts_a_suite(stage: StageView, evaluated: Sequence[StageView]) -> bool:
    """Whether a suite is first or last measured here; only such rollouts are read."""
    position = list(evaluated).index(stage)
    around = [set().union(*(s.evaluations for s in others)) for others in (evaluated[:position], evaluated[position + 1 :])]
    return any(suite not in seen for seen in around for suite in stage.evaluations)


def _explained(run: RunView) -> tuple[StageView | None, StageView | None]:
    """The evaluation to explain and the one before it: what the last diagnose stage names, else the last and the first."""
    evaluated = {stage.id: stage for stage in run.evaluations}
    for stage in reversed(run.stages):
        if stage.kind == "diagnose" and (found := evaluated.get(str(stage.config.get("of")))) is not None:
            return evaluated.get(str(stage.config.get("before"))), found
    several = list(evaluated.values())
    return (several[0] if len(several) > 1 else None), (several[-1] if several else None)


def _diagnosis(before: StageView | None, explained: StageView | None, rollouts: Mapping[str, Sequence[RolloutRecord]]) -> Diagnosis:
    if explained is None:
        return Diagnosis()
    earlier = rollouts.get(before.id) if before is not None else None
    return diagnose(rollouts.get(explained.id, ()), before=earlier, examples=EXAMPLES)


def _status(run: RunView) -> str:
    states = [stage.status for stage in run.stages]
    for state in ("failed", "stopped", "running"):
        if state in states:
            return state
    if states and all(state == "done" for state in states):
        return "done"
    return "running" if "done" in states else "waiting"


def _headline(run: RunView, suites: Sequence[SuiteVerdict]) -> str:
    status = _status(run)
    if suites and status != "done":
        where = next((stage.id for stage in run.stages if stage.status == status), "")
        said = {"failed": f"The run failed in {where}", "stopped": f"The run was stopped in {where}"}.get(
            status, "The run is not finished"
        )
        return f"{said}. So far: {suites[0].sentence}"
    if suites:
        return suites[0].sentence
    if status == "done":
        return "The run finished without an evaluation, so nothing says whether it helped."
    return "No evaluation has finished yet, so there is nothing to conclude."


def _facts(run: RunView, found: Sequence[Remark], diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """The few numbers beside the verdict."""
    done = sum(stage.status == "done" for stage in run.stages)
    facts = [
        ("stages finished", f"{done} of {len(run.stages)}"),
        ("time", show.duration(sum(stage.wall_s or 0.0 for stage in run.stages))),
    ]
    changed = [suite.change.tasks for suite in diagnosis.suites.values() if suite.change]
    if changed:
        facts.append(("tasks fixed", str(sum(len(tasks.fixed) for tasks in changed))))
        facts.append(("tasks regressed", str(sum(len(tasks.regressed) for tasks in changed))))
    grave = sum(remark.level in ("stop", "warn") for remark in found)
    return [*facts, ("warnings", str(grave))]


def _models(run: RunView) -> list[dict[str, Any]]:
    """Every model of the run: where it came from, and what each evaluation of it found."""
    origin = str(run.recipe.get("model") or run.summary.get("model") or run.lineage.get("model") or "base")
    models: dict[str, dict[str, Any]] = {"base": {"id": "base", "kind": origin, "parent": "", "rates": []}}
    for stage in run.stages:
        parent = str(stage.config.get("model") or [*(stage.config.get("models") or ()), "base"][0])
        if stage.kind in MAKES_MODEL:
            models[stage.id] = {"id": stage.id, "kind": stage.kind, "parent": parent, "status": stage.status, "rates": []}
        elif stage.evaluations and parent in models:
            rates = [(suite, numbers.get("pass@1", {})) for suite, numbers in stage.evaluations.items()]
            models[parent]["rates"] = rates
    return list(models.values())


def _versions(run: RunView) -> dict[str, str]:
    """Package -> version, those of all stages together; a package that changed between stages shows both."""
    found: dict[str, list[str]] = {}
    stages = run.lineage.get("stages")
    for stage in stages if isinstance(stages, list) else []:
        versions = stage.get("versions") if isinstance(stage, Mapping) else None
        for name, version in versions.items() if isinstance(versions, Mapping) else ():
            if str(version) not in found.setdefault(str(name), []):
                found[str(name)].append(str(version))
    return {name: ", ".join(values) for name, values in found.items()}
