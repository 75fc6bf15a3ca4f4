"""grade, graders list, graders test."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from posttrain.cli.options import Json
from posttrain.cli.show import harmless, print_json, table
from posttrain.core.errors import PromiseBroken, UserError

KindArgument = Annotated[str, typer.Argument(metavar="GRADER", help="One of `posttrain graders list`.")]
GraderSet = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the grader: extract=boxed. Repeatable.")
]


def grade(
    kind: KindArgument,
    answer: Annotated[str, typer.Option("--answer", help="The model's whole text; - reads it from standard input.")],
    gold: Annotated[str | None, typer.Option("--gold", help="The reference answer.")] = None,
    task: Annotated[str, typer.Option("--task", help="The question, for graders that look at it.")] = "?",
    tokens: Annotated[int | None, typer.Option("--tokens", help="How many tokens the answer took, for the length grader.")] = None,
    set_: GraderSet = None,
    as_json: Json = False,
) -> None:
    """Grade one answer."""
    from posttrain.core.types import Message, Task
    from posttrain.graders import grade_text

    config = _config(kind, set_ or [])
    text = sys.stdin.read() if answer == "-" else answer
    scorers = {}
    if kind == "reward_model":  # only then wait for torch
        from posttrain.stages.rewards import scorers_of

        scorers = scorers_of([config], {})
    asked = Task("command-line", (Message("user", task),), answer=gold)
    found = grade_text(config, asked, text, base=Path(), written=tokens, scorers=scorers)
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    verdict = "not judged" if found.passed is None else "passed" if found.passed else "not passed"
    score = "no score" if found.score is None else f"score {found.score:g}"
    print(f"{verdict}, {score} ({found.status}); answer: {harmless(str(found.answer))}")
    if found.explanation:
        print(harmless(found.explanation))


def list_graders(as_json: Json = False) -> None:
    """List what can judge an answer, with every setting."""
    from posttrain.pipeline.settings import GRADERS, default_text, fields_of, help_of

    found: dict[str, Any] = {}
    for kind, config in GRADERS.items():
        texts = help_of(config)
        settings = {
            name: {"help": texts.get(name, ""), "default": default_text(config, name).removeprefix("default ")}
            for name in fields_of(config)
            if name != "kind"
        }
        found[kind] = {"help": (config.__doc__ or "").strip(), "settings": settings}
    if as_json:
        print_json(found)
        return
    table(("grader", "judges", "settings"), [(kind, each["help"], ", ".join(each["settings"])) for kind, each in found.items()])


def test(
    kind: Annotated[str | None, typer.Argument(metavar="[GRADER]", help="One of `posttrain graders list`.")] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="builtin:<set> or a file of tasks.")] = "builtin:arithmetic",
    count: Annotated[int, typer.Option("--count", min=1, help="How many tasks.")] = 20,
    report: Annotated[
        bool, typer.Option("--report", help="Instead: how often verifiers are wrong on labelled answers, and on which.")
    ] = False,
    set_: GraderSet = None,
    as_json: Json = False,
) -> None:
    """Let a grader prove itself: gold passes; empty, garbage, and gold among other guesses fail. Exit code 3 if not."""
    if report:
        _report(kind, set_ or [], as_json)
        return
    if kind is None:
        raise UserError("which grader?", fix="Name one of `posttrain graders list`, or ask for all with --report.")
    from posttrain.core.config import TaskSource
    from posttrain.data import load_tasks
    from posttrain.graders import selftest

    config = _config(kind, set_ or [])
    found = selftest([config], load_tasks([TaskSource(source=tasks, count=count)], references={}, base=Path(), seed=0), base=Path())
    if as_json:
        print_json({**dataclasses.asdict(found), "ok": found.ok})
    else:
        rows = [(attempt, str(found.right.get(attempt, 0)), str(number)) for attempt, number in found.tried.items()]
        table(("attempt", "right", "tried"), rows, title=f"{kind} on {found.tasks} tasks of {tasks}", right=("right", "tried"))
    if not found.ok:
        raise PromiseBroken(f"grader {kind} failed: {'; '.join(found.problems)}.", fix="Choose a stricter grader or setting.")
    if not found.tried and not as_json:
        print(f"{kind} does not decide what is correct, so there is nothing to try it with")


def _report(kind: str | None, changes: list[str], as_json: bool) -> None:
    """Error rates on the labelled sets, of one verifier or of all that have one."""
    from posttrain.graders import error_rates

    if changes:
        raise UserError("--set does not go with --report.", fix="Leave it out: each labelled answer brings its own settings.")
    found = [error_rates.report(each) for each in ([kind] if kind else error_rates.SETTINGS)]
    if as_json:
        print_json([each.to_json() for each in found])
        return
    rates = ("false_accepts", "false_rejects", "no_verdict")
    rows = [
        (name, str(of.cases), *(_rate(getattr(of, rate)) for rate in rates), f"{of.checks_per_s:,.0f}")
        for each in found
        for name, of in ((each.kind, each), (f"{each.kind}, held out", each.held_out))
        if of is not None
    ]
    columns = ("verifier", "cases", "wrong accepted", "right rejected", "no verdict", "checks/s")
    table(columns, rows, title="Verifiers on labelled answers (95 % intervals)", right=("cases", "checks/s"))
    for each in found:
        if each.exact_checks_per_s is not None:
            print(f"{each.kind}: {each.exact_checks_per_s:,.0f} checks/s where text and plain numbers decide")
        for case in each.failing:
            wanted = "" if case["reference"] is None else f" for {case['reference']!r}"
            print(harmless(f"{each.kind}: {case['fault']} ({case['trap']}) {case['text']!r}{wanted}: {case['explanation']}"))


def _rate(interval: Any) -> str:
    """`0 of 60 (0.0 to 6.0 %)`."""
    if interval.value is None:
        return "-"
    return f"{round(interval.value * interval.n)} of {interval.n} ({100 * interval.low:.1f} to {100 * interval.high:.1f} %)"


def _config(kind: str, changes: list[str]) -> Any:
    """The grader's settings, read like a recipe's so that errors are the same."""
    from posttrain.pipeline.settings import GRADERS
    from posttrain.pipeline.tree import Section, nearest, scalar
    from posttrain.pipeline.validate import read_settings

    if kind not in GRADERS:
        near = nearest(kind, sorted(GRADERS))
        raise UserError(
            f"{kind!r} is not a grader.", fix=f"Did you mean {near}?" if near else f"Graders: {', '.join(sorted(GRADERS))}."
        )
    section = Section("", "--set")
    section.put("kind", kind, "")
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"--set {change}: expected key=value.", fix="For example --set extract=boxed.")
        section.put(name.strip(), scalar(value), f"--set {change}")
    return read_settings(GRADERS[kind], section, f"grader {kind!r}")
