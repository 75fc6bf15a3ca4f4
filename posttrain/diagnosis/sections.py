"""The parts of the report below the verdict, each from records to what the template prints. No HTML here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from posttrain.core.statistics import Paired, paired, verdicts
from posttrain.diagnosis.charts import COLOURS, Series, line_chart
from posttrain.diagnosis.findings import ALL, Cell, SuiteDiagnosis
from posttrain.diagnosis.load import RunView, StageView
from posttrain.diagnosis.show import visible
from posttrain.diagnosis.verdict import finite

if TYPE_CHECKING:
    from posttrain.records.rollouts import RolloutRecord


@dataclass(frozen=True)
class Panel:
    """One small chart: a title, what it means in a few words, its lines."""

    title: str
    hint: str
    legend: Sequence[str]
    svg: Markup
    last: float | None
    share: bool


@dataclass(frozen=True)
class PanelPlan:
    title: str
    hint: str
    metrics: Mapping[str, str]
    """Metric -> its name in the legend."""
    share: bool = False
    limit: str = ""
    """Setting of the stage that is the limit, drawn as a dashed line."""


CANARIES = {"canary/fooled": "fooled", "canary/missed": "missed"}
PLANS = (
    PanelPlan("Reward", "mean over the step's samples, and its parts", {"reward/mean": "total"}),
    PanelPlan("Pass rate", "share of samples the graders call right", {"passed": "passed"}, share=True),
    PanelPlan("KL to the reference", "nats per token", {"kl/k1": "k1", "kl/k3": "k3"}),
    PanelPlan("Entropy", "nats per token; 0 is one certain answer", {"entropy": "entropy"}),
    PanelPlan("Length", "tokens written", {"length/mean": "mean", "length/max": "longest"}, limit="max_tokens"),
    PanelPlan("Turns", "of an episode, and tools called in it", {"episode/turns": "turns", "episode/calls": "calls"}),
    PanelPlan("Cut off", "share of answers that reached the limit", {"length/truncated": "truncated"}, share=True),
    PanelPlan("Groups without signal", "all rewards of the task equal", {"groups/zero_variance": "zero variance"}, share=True),
    PanelPlan("Clipped", "share of tokens outside the ratio's range", {"clip/low": "low", "clip/high": "high"}),
    PanelPlan("Sampler–trainer gap", "mean difference, nats per token", {"gap/mean": "mean"}, limit="mismatch_budget"),
    PanelPlan("Largest gap", "of any one token, nats", {"gap/max": "largest"}),
    PanelPlan(
        "Without a score", "unscored or failed samples", {"rollouts/unscored": "unscored", "rollouts/failed": "failed"}, share=True
    ),
    PanelPlan("Judge's canaries", "wrong verdicts on answers of known worth", CANARIES, share=True),
    PanelPlan("Loss", "of the step, and on held-out rows", {"loss": "training", "loss/validation": "validation"}),
    PanelPlan("Pairs ordered rightly", "share", {"accuracy": "training", "accuracy/validation": "validation"}, share=True),
    PanelPlan(
        "Margin", "implicit reward, chosen over rejected", {"rewards/margin": "training", "rewards/margin/validation": "validation"}
    ),
    PanelPlan("Log-probabilities", "of whole answers, nats", {"logprobs/chosen": "chosen", "logprobs/rejected": "rejected"}),
    PanelPlan("KL to the teacher", "nats per token", {"kl/teacher": "KL"}),
    PanelPlan("Agreement", "teacher and student would write the same token", {"agreement": "agreement"}, share=True),
    PanelPlan("Critic", "its values, and what came of them", {"value/mean": "values", "return/mean": "returns"}),
    PanelPlan("Critic's loss", "squared error of the values", {"loss/value": "loss"}),
    PanelPlan("Explained variance", "of the returns, by the critic; 1 is all", {"value/explained_variance": "explained"}),
    PanelPlan("Mixed-in likelihood", "loss of the rows beside the reward", {"loss/ptx": "loss"}),
    PanelPlan("Gradient norm", "before clipping", {"grad_norm": "norm"}, limit="max_grad_norm"),
    PanelPlan("Learning rate", "", {"learning_rate": "rate"}),
)
NOT_PARTS = {"reward/mean", "reward/std"}


def panels(stage: StageView, index: int) -> list[Panel]:
    """The charts of one training stage; metrics it does not have make no chart."""
    made = []
    for number, plan in enumerate(of_episodes(stage)):
        names = dict(plan.metrics)
        if "reward/mean" in names:
            parts = {name for row in stage.metrics for name in row if name.startswith("reward/")} - NOT_PARTS
            names |= {name: name.removeprefix("reward/") for name in sorted(parts)[: len(COLOURS) - 1]}
        lines = [line for name, label in names.items() if (line := _series(stage, name, label))]
        if not lines or (plan.title in ("Cut off", "Without a score") and not any(any(line.values) for line in lines)):
            continue
        limit = stage.config.get(plan.limit) if plan.limit else None
        shown_limit = float(limit) if isinstance(limit, int | float) and _near(limit, lines) else None
        svg = line_chart(f"{plan.title} over steps", lines, limit=shown_limit, share=plan.share, name=f"s{index}c{number}")
        last = finite(stage, next(iter(names)))
        legend = [visible(line.name, 40) for line in lines] + ([plan.limit] if shown_limit is not None else [])
        made.append(Panel(plan.title, plan.hint, legend, svg, last[-1] if last else None, plan.share))
    return made


def of_episodes(stage: StageView) -> list[PanelPlan]:
    """The plans; where tasks are played in several turns, lengths are of whole episodes, and the limit is of one turn."""
    episodes = any("episode/turns" in row for row in stage.metrics)
    whole = "tokens written in an episode, all its turns together"
    return [replace(plan, hint=whole, limit="") if episodes and plan.limit == "max_tokens" else plan for plan in PLANS]


def _series(stage: StageView, name: str, label: str) -> Series | None:
    points = [(row.get("step", i), row[name]) for i, row in enumerate(stage.metrics) if isinstance(row.get(name), int | float)]
    if not points or (name == "kl/k3" and not any(value for _, value in points)):
        return None
    return Series(label, [float(step) for step, _ in points], [float(value) for _, value in points])


def _near(limit: float, lines: Sequence[Series]) -> bool:
    """A limit far above everything measured would flatten the curve; it is left out then."""
    values = [value for line in lines for value in line.values if math.isfinite(value)]
    return bool(values) and limit <= 3 * max(values)


TIMES = ("generate", "grade", "score", "value", "update", "other")


@dataclass(frozen=True)
class TimeBar:
    stage: str
    total: float
    parts: Sequence[tuple[str, float]]
    """Name and seconds; `other` is what the step took beyond the named parts."""


def time_bars(run: RunView) -> list[TimeBar]:
    """A stage that times no part of its step does nothing but update (sft): then the whole step is the update."""
    bars = []
    for stage in run.stages:
        seconds = {name: sum(finite(stage, f"time/{name}")) for name in TIMES[:-1]}
        total = max(sum(finite(stage, "time/step")), sum(seconds.values()))
        if total > 0:
            if not any(seconds.values()):
                seconds["update"] = total
            parts = [*seconds.items(), ("other", total - sum(seconds.values()))]
            bars.append(TimeBar(stage.id, total, [(name, value) for name, value in parts if value > 0.005 * total]))
    return bars


@dataclass(frozen=True)
class Row:
    """A slice before and after. `test` compares them on the same tasks."""

    name: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    test: Paired | None


@dataclass(frozen=True)
class SuiteTable:
    suite: str
    stages: Sequence[tuple[str, Mapping[str, Any]]]
    """Each evaluation's id and numbers, in order."""
    rows: Sequence[Row]
    """`all` first, then each slice, from the first evaluation to the last."""
    ks: Sequence[str]


def suite_tables(run: RunView, rollouts: Mapping[str, Sequence[RolloutRecord]]) -> list[SuiteTable]:
    suites = list(dict.fromkeys(suite for stage in run.evaluations for suite in stage.evaluations))
    return [_suite_table(run, suite, rollouts) for suite in suites]


def _suite_table(run: RunView, suite: str, rollouts: Mapping[str, Sequence[RolloutRecord]]) -> SuiteTable:
    measured = [stage for stage in run.evaluations if suite in stage.evaluations]
    first, last = measured[0].evaluations[suite], measured[-1].evaluations[suite]
    compared = len(measured) > 1
    old = [r for r in rollouts.get(measured[0].id, ()) if r.suite == suite] if compared else []
    new = [r for r in rollouts.get(measured[-1].id, ()) if r.suite == suite] if compared else []
    rows = [Row(ALL, first.get("pass@1") if compared else None, last.get("pass@1", {}), _test(old, new, ALL))]
    for name, numbers in last.get("slices", {}).items():
        before = first.get("slices", {}).get(name, {}).get("pass@1") if compared else None
        rows.append(Row(visible(name, 80), before, numbers.get("pass@1", {}), _test(old, new, name)))
    ks = [key for key in last if key.startswith("pass@")]
    return SuiteTable(visible(suite), [(stage.id, stage.evaluations[suite]) for stage in measured], rows, ks)


def _test(before: Sequence[RolloutRecord], after: Sequence[RolloutRecord], name: str) -> Paired | None:
    dimension, _, value = name.partition("=")
    old, new = (
        verdicts(record for record in records if name == ALL or record.slices.get(dimension) == value)
        for records in (before, after)
    )
    test = paired(old, new)
    return test if test.n else None


@dataclass(frozen=True)
class Shown:
    """Rollouts of one stage at one step, chosen to be looked at: `best`, `median`, `worst`."""

    stage: str
    when: str
    records: Sequence[tuple[str, RolloutRecord]]


def shown_rollouts(run: RunView) -> list[Shown]:
    """First and last kept step of each stage that sampled to train or to select. Evaluations are shown as changes."""
    found = []
    for stage in run.stages:
        if stage.evaluations or not stage.rollout_files:
            continue
        files = stage.rollout_files
        for when, file in {"early": files[0], "late": files[-1]}.items() if len(files) > 1 else [("", files[0])]:
            records = run.rollouts_of(file)
            if records:
                label = f"{when}, step {records[0].step}" if when else f"{len(records)} rollouts"
                found.append(Shown(stage.id, label, pick(records)))
    return found


def pick(records: Sequence[RolloutRecord]) -> list[tuple[str, RolloutRecord]]:
    """Best, median and worst by score, ties broken by place; one without a score is shown as well, if there is one."""
    scored = sorted((r for r in records if r.score is not None), key=lambda r: r.score or 0.0)
    chosen: list[tuple[str, RolloutRecord]] = []
    if scored:
        places = {"best": len(scored) - 1, "median": len(scored) // 2, "worst": 0}
        used: set[int] = set()
        for name, place in places.items():
            if place not in used:
                used.add(place)
                chosen.append((name, scored[place]))
    unscored = next((r for r in records if r.score is None), None)
    return [*chosen, *([("no score", unscored)] if unscored else [])]


@dataclass(frozen=True)
class HeatTable:
    """Failures by slice (rows) and code (columns). `shade` is the cell's share of the darkest one."""

    codes: Sequence[str]
    rows: Sequence[tuple[str, int, Sequence[Cell | None]]]
    darkest: float
    examples: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def heat_table(suite: SuiteDiagnosis) -> HeatTable | None:
    if not suite.cells:
        return None
    totals = {cell.code: cell.count for cell in suite.cells if cell.slice == ALL}
    codes = sorted(totals, key=lambda code: -totals[code])
    by_place = {(cell.slice, cell.code): cell for cell in suite.cells}
    rows = [(name, count.judged, [by_place.get((name, code)) for code in codes]) for name, count in suite.slices.items()]
    darkest = max((cell.share.value or 0.0 for cell in suite.cells), default=0.0) or 1.0
    examples = {
        cell.code: [suite.examples[key] for key in cell.examples if key in suite.examples]
        for cell in suite.cells
        if cell.slice == ALL
    }
    return HeatTable(codes, rows, darkest, {code: examples[code] for code in codes})
