"""The first screen of the report: one sentence, then what speaks against believing it, then what was checked and is fine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from posttrain.core.statistics import Paired, paired, verdicts
from posttrain.diagnosis.load import RunView, StageView
from posttrain.diagnosis.show import limits, number, percent, points, probability, visible
from posttrain.diagnosis.spot_checks import spot_checks

if TYPE_CHECKING:
    from posttrain.records.rollouts import RolloutRecord

Level = Literal["stop", "warn", "note", "good"]
LEVELS: tuple[Level, ...] = ("stop", "warn", "note", "good")
RESERVED = {"started", "resumed", "checkpoint", "finished", "done"}


@dataclass(frozen=True)
class Remark:
    """One line of the list under the verdict."""

    level: Level
    title: str
    text: str
    stage: str = ""


@dataclass(frozen=True)
class SuiteVerdict:
    """First and last measurement of one suite. `test` is None where the rollouts were not kept."""

    suite: str
    first: str
    last: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    test: Paired | None

    @property
    def direction(self) -> str:
        """`rose`, `fell`, `unclear` (the interval holds 0) or `single` (nothing to compare with)."""
        if self.before is None or self.before.get("value") is None or self.after.get("value") is None:
            return "single"
        if self.test is not None and self.test.low is not None and self.test.high is not None:
            return "rose" if self.test.low > 0 else "fell" if self.test.high < 0 else "unclear"
        before, after = self.before, self.after
        return "rose" if after["low"] > before["high"] else "fell" if after["high"] < before["low"] else "unclear"

    @property
    def sentence(self) -> str:
        if self.after.get("value") is None:
            return f"No answer to {self.suite} has a verdict, so its pass rate is unknown."
        if self.direction == "single":
            value = f"{percent(self.after.get('value'))} (95 % interval {limits(self.after)})"
            return (
                f"pass@1 on {self.suite} is {value} over {self.after.get('n', 0)} tasks; there is nothing to compare it with yet."
            )
        assert self.before is not None
        change = {"rose": "rose", "fell": "fell", "unclear": "did not measurably change"}[self.direction]
        values = f"{percent(self.before['value'])} to {percent(self.after['value'])}"
        moved = f"Pass@1 on {self.suite} {change}{', ' if self.direction == 'unclear' else ' from '}{values}"
        if self.test is None or self.test.difference is None:
            return f"{moved}; the rollouts that a paired test needs were not kept."
        span = f"{points(self.test.difference)} points, 95 % interval {points(self.test.low)} to {points(self.test.high)}"
        return f"{moved} ({span}; {probability(self.test.p_value)})."


def suite_verdicts(run: RunView, rollouts: Mapping[str, Sequence[RolloutRecord]]) -> list[SuiteVerdict]:
    """One per suite, in the order of the last evaluation; `rollouts` holds those of the evaluate stages by stage id."""
    found: list[SuiteVerdict] = []
    stages = run.evaluations
    suites = list(dict.fromkeys(suite for stage in reversed(stages) for suite in stage.evaluations))
    for suite in suites:
        measured = [stage for stage in stages if suite in stage.evaluations]
        first, last = measured[0], measured[-1]
        before = first.evaluations[suite].get("pass@1") if first is not last else None
        old, new = (_verdicts(rollouts.get(stage.id, ()), suite) for stage in (first, last))
        test = paired(old, new) if before is not None and old and new else None
        after = last.evaluations[suite].get("pass@1", {})
        found.append(SuiteVerdict(visible(suite), first.id, last.id, before, after, test))
    return found


def remarks(run: RunView, suites: Sequence[SuiteVerdict]) -> list[Remark]:
    """Gravest first. What was checked and is fine comes last, so that silence is never mistaken for a check."""
    found = [Remark("warn", "A record could not be read", problem) for problem in run.problems]
    found += [remark for stage in run.stages for remark in _status(stage)]
    found += [Remark("warn", "A suite got worse", verdict.sentence) for verdict in suites if verdict.direction == "fell"]
    found += _from_peak(run)
    for stage in run.stages:
        final = run.evaluations[-1:] == [stage]
        found += [*_events(stage), *_missing_scores(stage, final), *_not_finite(stage), *_gap(stage), *_people(stage)]
    found += _quiet(run)
    return sorted(found, key=lambda remark: LEVELS.index(remark.level))


def _status(stage: StageView) -> list[Remark]:
    if stage.status == "failed":
        return [Remark("stop", "The stage failed", _last_word(stage), stage.id)]
    if stage.status == "stopped":
        return [Remark("stop", "The stage was stopped", _last_word(stage), stage.id)]
    if stage.status == "running":
        steps = f" after {len(stage.metrics)} steps" if stage.metrics else ""
        return [Remark("warn", "The stage is not finished", f"Its records end{steps}; everything below is provisional.", stage.id)]
    return []


def _people(stage: StageView) -> list[Remark]:
    text = spot_checks(stage)
    return [Remark("note", "People looked at answers", text, stage.id)] if text else []


def _last_word(stage: StageView) -> str:
    for event in reversed(stage.events):
        text = event.get("text") or event.get("error") or event.get("message")
        if text:
            return visible(text, 600)
    return "Its records do not say why."


def _events(stage: StageView) -> list[Remark]:
    """Monitors' decisions and other warnings, each once, with the steps it was said at."""
    said: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for event in stage.events:
        if event.get("text") and event.get("event") not in RESERVED and event.get("event") not in ("stopped", "failed"):
            said.setdefault((str(event.get("monitor", "")), str(event.get("severity", "warn"))), []).append(event)
    found = []
    for (monitor, severity), events in said.items():
        steps = [event["step"] for event in events if isinstance(event.get("step"), int)]
        where = f" (step {steps[0]}{f', and {len(events) - 1} times more' if len(events) > 1 else ''})" if steps else ""
        level: Level = "stop" if severity == "stop" else "note" if severity == "note" else "warn"
        title = f"Monitor {visible(monitor, 60)}" if monitor else "Warning"
        found.append(Remark(level, title, visible(events[-1]["text"], 600) + where, stage.id))
    return found


def _missing_scores(stage: StageView, final: bool) -> list[Remark]:
    """Answers cut off are a warning in the last evaluation; a base model that does not stop yet is only worth a note."""
    found = []
    for suite, numbers in stage.evaluations.items():
        missing, samples = numbers.get("unscored") or 0, numbers.get("samples") or 0
        if missing:
            text = f"{missing} of {samples or '?'} samples of {visible(suite)} have no verdict and are in no number here."
            found.append(Remark("warn" if missing > 0.01 * samples else "note", "Not everything was scored", text, stage.id))
        truncated = numbers.get("truncated") or 0.0
        if truncated > 0.1:
            text = f"{percent(truncated)} of the answers to {visible(suite)} were cut off at max_tokens."
            found.append(Remark("warn" if final else "note", "Answers are cut off", text, stage.id))
    return found


def _not_finite(stage: StageView) -> list[Remark]:
    bad = Counter(
        name for row in stage.metrics for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)
    )
    if not bad:
        return []
    names = ", ".join(f"{visible(name)} in {count}" for name, count in bad.most_common(6))
    return [
        Remark(
            "warn", "Metrics that are not finite", f"{names} of {len(stage.metrics)} steps; gaps in the curves, marked ×.", stage.id
        )
    ]


def _gap(stage: StageView) -> list[Remark]:
    gaps = finite(stage, "gap/mean")
    budget = stage.config.get("mismatch_budget")
    if not gaps or not isinstance(budget, int | float):
        return []
    text = f"At most {number(max(gaps))} nats per token on average; the budget is {number(budget)}."
    if max(gaps) > budget:
        return [Remark("stop", "Sampler and trainer differed", text, stage.id)]
    if stage.status != "done":  # the step that ended it may not be in the metrics
        return []
    return [Remark("good", "Sampler and trainer held the same policy", text, stage.id)]


def _from_peak(run: RunView) -> list[Remark]:
    """Where the last evaluation lies clearly below an earlier one."""
    found = []
    for suite in dict.fromkeys(name for stage in run.evaluations for name in stage.evaluations):
        measured = [(s, s.evaluations[suite].get("pass@1", {})) for s in run.evaluations if suite in s.evaluations]
        measured = [(stage, rate) for stage, rate in measured if rate.get("value") is not None]
        if len(measured) < 3:
            continue
        peak, last = max(measured[:-1], key=lambda pair: pair[1]["value"]), measured[-1]
        lost = peak[1]["value"] - last[1]["value"]
        if lost > 0.02:
            text = f"{visible(suite)}: {percent(peak[1]['value'])} at {peak[0].id}, {percent(last[1]['value'])} at the end. "
            found.append(
                Remark(
                    "warn" if lost > 0.05 else "note",
                    "Below its own best",
                    text + "Consider shipping the earlier model.",
                    last[0].id,
                )
            )
    return found


def _quiet(run: RunView) -> list[Remark]:
    """Checks that were made and found nothing."""
    found = []
    trained = [stage for stage in run.stages if stage.metrics]
    if run.evaluations and not any((n.get("unscored") or 0) for s in run.evaluations for n in s.evaluations.values()):
        samples = sum(n.get("samples") or 0 for s in run.evaluations for n in s.evaluations.values())
        found.append(
            Remark("good", "Every evaluated answer was scored", f"{samples:,} answers over {len(run.evaluations)} evaluations.")
        )
    if trained and not any(_not_finite(stage) for stage in trained):
        found.append(Remark("good", "All metrics are finite", f"{sum(len(s.metrics) for s in trained):,} steps."))
    sampled = [stage for stage in trained if finite(stage, "reward/mean")]
    if sampled and not any(event.get("monitor") for stage in sampled for event in stage.events):
        found.append(
            Remark("good", "No monitor spoke", "Reward, pass rate, KL, entropy, length, repetition and duplicates were watched.")
        )
    zero = [value for stage in sampled for value in finite(stage, "groups/zero_variance")]
    if zero and fmean(zero) <= 0.5:
        found.append(
            Remark("good", "The groups carried a signal", f"{percent(1 - fmean(zero))} of them, on average, had differing rewards.")
        )
    return found


def finite(stage: StageView, name: str) -> list[float]:
    values = (row.get(name) for row in stage.metrics)
    return [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]


def _verdicts(records: Sequence[RolloutRecord], suite: str) -> dict[str, list[bool]]:
    return verdicts(record for record in records if record.suite == suite)
