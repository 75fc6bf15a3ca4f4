"""The report of whole runs, of broken ones, and of hostile ones."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Group, Message, Rollout, Sampling, Task
from posttrain.diagnosis.charts import Series, line_chart
from posttrain.diagnosis.load import load_run
from posttrain.diagnosis.report import build
from posttrain.diagnosis.sections import panels
from posttrain.evaluation import summarise
from posttrain.records.events import append_event
from posttrain.records.metrics import MetricsWriter
from posttrain.records.paths import RunPaths
from posttrain.records.rollouts import read_rollouts, write_rollouts
from posttrain.records.summary import Result, write_result
from tests.diagnosis.runs import STAGES, graded, make_run

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags balance and collects what matters."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: dict[str, int] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.headings: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open and "nav" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    run = make_run(tmp_path_factory.mktemp("runs") / "demo")
    build(run.root)
    return run


def page_of(run: RunPaths) -> Page:
    return Page(build(run.root).read_text(encoding="utf-8"))


def test_the_page_is_whole_and_loads_nothing(whole: RunPaths) -> None:
    page = Page(whole.report.read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & page.tags.keys()
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "src", "xlink:href", "action"):
            assert value.startswith("#"), (tag, name, value)
            assert value[1:] in page.ids
    assert "url(" not in re.sub(r"url\(#", "", whole.report.read_text(encoding="utf-8"))
    assert (
        "meta",
        "content",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
    ) in page.attributes


def test_the_headline_says_what_the_records_say(whole: RunPaths) -> None:
    start, end = (
        summarise(read_rollouts(whole.stage(name).rollouts))["arithmetic"]["pass@1"]["value"] for name in ("start", "end")
    )
    text = Page(whole.report.read_text(encoding="utf-8")).text
    assert f"Pass@1 on arithmetic rose from {100 * start:.1f} % to {100 * end:.1f} %" in text
    assert "p < 0.001" in text


def test_everything_asked_for_is_there(whole: RunPaths) -> None:
    page = Page(whole.report.read_text(encoding="utf-8"))
    assert page.headings == [
        "Can this be believed?",
        "Pipeline and lineage",
        "Before and after",
        "Training",
        "What the stages say",
        "Best of N",
        "Where the time went",
        "Real rollouts",
        "Fixed and regressed",
        "Failures, by slice and kind",
        "What to fix next",
        "Provenance",
    ]
    for panel in (
        "Reward",
        "Pass rate",
        "KL to the reference",
        "Entropy",
        "Length",
        "Groups without signal",
        "Clipped",
        "Sampler–trainer gap",
    ):
        assert panel in page.text
    for stage in STAGES:
        assert stage["id"] in page.text
    assert page.tags["svg"] == 3 * 2 + 13 + 1  # two sft stages with 3 panels, one grpo stage with 13, the curve of best-of-N
    assert "10 rows kept from 12 tasks" in page.text and "90 %" in page.text and "a longer copy" in page.text
    assert "operation=multiply" in page.text and "torch 2.13.0" in page.text and "data_patch.jsonl" in page.text


def test_a_nan_is_a_warning_and_a_gap(whole: RunPaths) -> None:
    assert "loss in 1 of 30 steps" in Page(whole.report.read_text(encoding="utf-8")).text


def test_building_twice_gives_the_same_page(whole: RunPaths) -> None:
    def stable(text: str) -> str:
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", text)

    first = whole.report.read_text(encoding="utf-8")
    assert stable(first) == stable(build(whole.root).read_text(encoding="utf-8"))


@pytest.mark.parametrize("until", ["start", "cold-start", "after-sft", "rl", "polish"])
def test_a_run_that_is_not_finished(tmp_path: Path, until: str) -> None:
    page = page_of(make_run(tmp_path / "half", until=until, tasks=12, steps=6))
    assert "unfinished" in page.text
    assert "The stage is not finished" in page.text
    if until in ("start", "cold-start"):
        assert "nothing to compare it with yet" in page.text or "No evaluation has finished yet" in page.text


def test_a_failed_stage_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path / "failed", until="rl", tasks=12, steps=6)
    append_event(
        run.stage("rl").events, "warning", step=2, severity="stop", monitor="gap", text="sampler and trainer differ by 0.3 nats"
    )
    append_event(run.stage("rl").events, "failed", error="gap stopped the run at step 2")
    text = page_of(run).text
    assert "The stage failed" in text and "gap stopped the run at step 2" in text
    assert text.index("sampler and trainer differ") < text.index("Pipeline and lineage")


def test_a_run_that_has_only_a_recipe(tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "new")
    run.root.mkdir()
    run.recipe.write_text("name: new\nmodel: m\nstages:\n- {id: a, kind: sft, data: [x.jsonl]}\n")
    page = page_of(run)
    assert "not started" in page.text and "No evaluation has finished yet" in page.text


def test_records_that_are_damaged_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "damaged", tasks=12, steps=6)
    run.stage("after-rl").result.write_text("{ not json")
    min(run.stage("rl").rollouts.glob("*.parquet")).write_bytes(b"not parquet")
    with run.stage("cold-start").metrics.open("a") as file:
        file.write('{"step": 99, "lo')
    run.lineage.write_text("[]")
    text = page_of(run).text
    assert "result.json of after-rl could not be read" in text
    assert "step-000000.parquet of rollouts could not be read" in text
    assert "lineage.json of damaged could not be read" in text


def test_no_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run of posttrain"):
        build(tmp_path)


def test_only_not_a_numbers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "nan", until="rl", tasks=12, steps=6)
    with MetricsWriter(run.stage("rl").metrics) as metrics:
        for step in range(3):
            metrics.write(
                step, {"reward/mean": math.nan, "passed": math.inf, "loss": math.nan, "gap/mean": math.nan, "time/step": math.nan}
            )
    text = page_of(run).text
    assert "loss in 3" in text and "passed in 3" in text


HOSTILE = (
    "</pre><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"
    "\x1b[2J\x00\u202egnp.exe\u200b\ud800 $x^2$ <style>*{}</style>"
)


def hostile_groups() -> list[Group]:
    task = Task("<b>id</b>" + HOSTILE, (Message("user", HOSTILE),), HOSTILE, {HOSTILE: HOSTILE})
    rollouts = []
    for sample in range(2):
        grade = Grade(float(sample), bool(sample), answer=HOSTILE, explanation=HOSTILE, parts={HOSTILE: 1.0})
        rollouts.append(Rollout(task, sample, (*task.messages, Message("assistant", HOSTILE * 40)), (), Sampling(), grade=grade))
    return [Group(task, tuple(rollouts))]


def without_surrogate(group: Group) -> Group:
    """Parquet cannot hold lone surrogates; the page must survive them all the same."""

    def clean(text: str) -> str:
        return text.replace("\ud800", "")

    task = replace(
        group.task,
        id=clean(group.task.id),
        messages=(Message("user", clean(HOSTILE)),),
        answer=clean(HOSTILE),
        slices={clean(HOSTILE): clean(HOSTILE)},
    )
    rollouts = tuple(
        replace(
            r,
            task=task,
            messages=(*task.messages, Message("assistant", clean(r.text))),
            grade=replace(r.grade, answer=clean(HOSTILE), explanation=clean(HOSTILE), parts={clean(HOSTILE): 1.0})
            if r.grade
            else None,
        )
        for r in group.rollouts
    )
    return Group(task, rollouts)


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "hostile", tasks=8, steps=6)
    groups = [without_surrogate(group) for group in hostile_groups()]
    clean = HOSTILE.replace("\ud800", "")
    for stage in ("start", "end"):
        paths = run.stage(stage)
        for file in paths.rollouts.glob("*.parquet"):
            file.unlink()
        write_rollouts(paths.rollouts / "x.parquet", 0, groups, suite=clean)
        write_result(paths, Result(stage, "evaluate", 1.0, {}, {}, summarise(read_rollouts(paths.rollouts))))
    for file in run.stage("rl").rollouts.glob("*.parquet"):
        write_rollouts(file, 0, groups)
    append_event(run.stage("rl").events, "warning", step=1, severity="warn", monitor=HOSTILE, text=HOSTILE)
    with MetricsWriter(run.stage("rl").metrics) as metrics:
        metrics.write(0, {f"reward/{clean}": 1.0, "reward/mean": 1.0})
    for path in (run.recipe, run.lineage):
        path.write_text(
            json.dumps(
                {**json.loads(json.dumps(dict(load_run(run.root).recipe))), "name": clean, "tradeoff": HOSTILE, "differs": [clean]}
            )
        )
    text = build(run.root).read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and "img" not in page.tags and page.tags["style"] == 1
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert "<script>alert(1)</script>" in page.text  # as text
    assert "{{ 7*7 }}" in page.text and "49" not in page.text.split("{{ 7*7 }}")[1][:40]
    assert "␛[2J␀⟨U+202E⟩gnp.exe⟨U+200B⟩" in page.text
    assert "⟨U+D800⟩" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)


def test_long_text_is_folded_and_bounded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "long", until="after-rl", tasks=4, steps=6)
    groups = graded("start", 1)
    long = Message("assistant", "word " * 400_000)
    rollout = replace(groups[0].rollouts[0], messages=(*groups[0].task.messages, long))
    for file in run.stage("rl").rollouts.glob("*.parquet"):
        write_rollouts(file, 0, [Group(groups[0].task, (rollout,))])
    text = build(run.root).read_text(encoding="utf-8")
    assert len(text) < 600_000
    assert "more characters are in the records" in text and "<details" in text


def test_a_chart_shows_gaps_and_follows_the_page() -> None:
    values = [0.1, 0.2, math.nan, 0.4, math.inf, 0.5]
    svg = str(line_chart('a "quoted" <label>', [Series("x", range(6), values)], limit=0.3, name="one"))
    assert svg.startswith("<svg viewBox=") and "&lt;label&gt;" in svg
    assert "var(--c1)" in svg and "#0a0001" not in svg
    line = re.search(r'<path d="([^"]*)" clip-path[^>]*style="fill: none; stroke: var\(--c1\)', svg)
    assert line is not None and line.group(1).count("M") == 3  # the two gaps cut the line in three
    marks = re.findall(r'<use href="#one-\w+" x="[\d.]+" y="[\d.]+" style="[^"]*var\(--bad\)', svg)
    assert len(marks) == 2
    other = str(line_chart("b", [Series("x", range(6), values)], name="two"))
    assert not set(re.findall(r' id="([^"]+)"', svg)) & set(re.findall(r' id="([^"]+)"', other))


def test_a_suite_that_got_worse_is_a_warning(tmp_path: Path) -> None:
    run = make_run(tmp_path / "worse", tasks=60, steps=6)
    for stage, skill in (("start", "end"), ("end", "start")):
        paths = run.stage(stage)
        write_rollouts(paths.rollouts / "arithmetic.parquet", 0, graded(skill, 60), suite="arithmetic")
        write_result(paths, Result(stage, "evaluate", 1.0, {}, {}, summarise(read_rollouts(paths.rollouts))))
    text = page_of(run).text
    assert "Pass@1 on arithmetic fell from" in text and "A suite got worse" in text and "Below its own best" in text


def test_samples_without_a_verdict_are_a_warning(tmp_path: Path) -> None:
    run = make_run(tmp_path / "unscored", tasks=10, steps=6)
    groups = graded("end", 10)
    silent = [Group(g.task, tuple(replace(r, grade=Grade.unscored("silent")) for r in g.rollouts)) for g in groups[:3]]
    paths = run.stage("end")
    write_rollouts(paths.rollouts / "arithmetic.parquet", 0, [*silent, *groups[3:]], suite="arithmetic")
    write_result(paths, Result("end", "evaluate", 1.0, {}, {}, summarise(read_rollouts(paths.rollouts))))
    text = page_of(run).text
    assert "3 of 10 samples of arithmetic have no verdict" in text
    assert "Every evaluated answer was scored" not in text


def test_a_stages_own_numbers_are_shown_whatever_they_are(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", tasks=8, steps=3)
    path = next(path for path in run.root.glob("*/result.json") if json.loads(path.read_text())["kind"] == "sft")
    kept = json.loads(path.read_text())
    kept["kind"] = "reward_model"
    kept["summary"] = {
        "steps": 12,
        "held_out": {"accuracy": {"value": 0.81, "low": 0.7, "high": 0.9, "n": 60}, "pairs": 60},
        "loss": {"first": 0.69, "last": 0.31},
        "worth": {"difference": 0.25, "low": 0.2, "high": 0.3, "p_value": 0.001, "n": 9},
        "note": "<script>alert(1)</script>",
    }
    path.write_text(json.dumps(kept))
    page = build(run.root).read_text()
    for shown in (
        "What the stages say",
        "held out, accuracy",
        "0.81 (0.7 to 0.9, n = 60)",
        "0.69 → 0.31",
        "0.25 (0.2 to 0.3, n = 9)",
    ):
        assert shown in page
    assert "<script>alert" not in page


def test_lineage_follows_what_judges_a_stage(tmp_path: Path) -> None:
    """A grader's reward model, a critic's start and an average's parts are parents too, each named once."""
    settings = {
        "model": "sft",
        "tasks": [{"source": "builtin:arithmetic"}],
        "critic_reward_model": "reward",
        "graders": [{"kind": "math"}, {"kind": "reward_model", "model": "reward"}, {"kind": "reward_model", "model": "other"}],
    }
    stage = load_run(make_run(tmp_path).root).stages[0]
    assert replace(stage, config=settings).parents == ["sft", "builtin:arithmetic", "reward", "other"]
    assert replace(stage, config={"models": ["one", "two"]}).parents == ["one", "two"]


def test_lengths_of_episodes_are_not_held_against_the_limit_of_a_turn(tmp_path: Path) -> None:
    paths = make_run(tmp_path)
    (stage,) = (each for each in load_run(paths.root).stages if each.id == "rl")
    lengths = {panel.title: panel for panel in panels(stage, 0)}["Length"]
    assert lengths.hint == "tokens written" and "max_tokens" in lengths.legend
    played = replace(stage, metrics=[{**row, "episode/turns": 2.0} for row in stage.metrics])
    lengths = {panel.title: panel for panel in panels(played, 0)}["Length"]
    assert "episode" in lengths.hint and "max_tokens" not in lengths.legend
