"""graders calibrate."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posttrain.cli.options import Json
from posttrain.cli.show import print_json, table
from posttrain.core.errors import UserError

if TYPE_CHECKING:
    from posttrain.core.config import JudgeGrader
    from posttrain.core.types import Grade

KEY_ROWS = 5
"""Questions that each answer without content is tried on."""


def calibrate(
    judge: Annotated[str, typer.Argument(metavar="JUDGE", help="A YAML file with the judge's settings, or a recipe that has one.")],
    labels: Annotated[str, typer.Option("--labels", help="Labelled answers: a JSONL file, or pyrit:<set>. See docs/judges.md.")],
    stage: Annotated[str | None, typer.Option("--stage", help="The recipe's stage, where several have a judge.")] = None,
    count: Annotated[int, typer.Option(min=2, help="Rows to use, from the start.")] = 400,
    out: Annotated[Path | None, typer.Option("--out", help="Result file; beside JUDGE as *.calibration.json if not given.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Pattern of words to compare with; refusals if not given.")] = None,
    least_kappa: Annotated[float, typer.Option(help="Least lower end of kappa's interval.")] = 0.4,
    most_master_keys: Annotated[float, typer.Option(help="Largest share of empty answers that pass.")] = 0.01,
    least_swap: Annotated[float, typer.Option(help="Least share of verdicts that survive swapping.")] = 0.8,
    as_json: Json = False,
) -> None:
    """Measure a judge against people's labels, and say whether it may train. Replies are kept beside the result."""
    from posttrain.data.labels import read_labels
    from posttrain.evaluation.calibration import REFUSALS, Thresholds
    from posttrain.evaluation.calibration import calibrate as measure
    from posttrain.graders.judge.trust import identity
    from posttrain.records.files import write_json

    config = read_judge(judge, stage)
    rows = read_labels(labels)[:count]
    require_kind(config, rows)
    path = out or Path(judge).with_suffix(".calibration.json")
    judged, keys = asyncio.run(ask(config, rows, path.with_name(f".{path.name}.replies.jsonl")))
    wanted = Thresholds(kappa=least_kappa, master_keys=most_master_keys, swap=least_swap)
    found = measure(judged, keys, wanted, baseline or REFUSALS)
    found = {"judge": identity(config, {}), "models": [each.name for each in config.models], "labels": labels, **found}
    write_json(path, {**found, "settings": asdict(config)})
    if as_json:
        print_json(found)
        return
    show(found)
    print(f"written to {path}")


def read_judge(text: str, stage: str | None) -> JudgeGrader:
    """The judge of a file of its own, or of a recipe."""
    from posttrain.core.config import JudgeGrader
    from posttrain.pipeline import tree
    from posttrain.pipeline.parse import load_document
    from posttrain.pipeline.references import absolute_paths, inner_settings
    from posttrain.pipeline.validate import read_settings

    path = Path(text)
    if path.is_file() and (top := tree.read(path)).get("kind") == "judge":
        absolute_paths(top, path.resolve().parent)
        return read_settings(JudgeGrader, top, "grader 'judge'")
    recipe = load_document(text).recipe
    found = {
        inner
        for each in recipe.stages
        if stage in (None, each.id)
        for inner, _ in inner_settings(each.config)
        if isinstance(inner, JudgeGrader)
    }
    if len(found) != 1:
        raise UserError(
            f"{text} has {len(found)} different judges{f' in stage {stage}' if stage else ''}; expected one.",
            fix="Name a stage with --stage, or give the judge a file of its own.",
        )
    return found.pop()


def require_kind(config: JudgeGrader, rows: list[Any]) -> None:
    if (config.compare is not None) != all(row.other is not None for row in rows):
        wanted = "comparisons, with a column `other`" if config.compare else "answers by themselves, without a column `other`"
        raise UserError(f"this judge needs labels of {wanted}.", fix="See docs/judges.md.")
    if config.compare == "group":
        raise UserError("a judge that compares within a group is calibrated as compare: reference.", fix="Write it so in its file.")


async def ask(config: JudgeGrader, rows: list[Any], replies: Path) -> tuple[list[Any], list[Grade]]:
    from posttrain.core.types import Task
    from posttrain.evaluation.calibration import KEYS, Judged
    from posttrain.graders.judge.measured import asked_thrice, grade_of
    from posttrain.graders.judge.panel import panel_of
    from posttrain.stages.judges import judge_models

    async with judge_models([config], {}, replies) as models:
        panel = panel_of(config, models)

        async def one(row: Any) -> Judged:
            found = await asked_thrice(panel, row.id, row.prompt, row.answer, reference=row.reference, other=row.other)
            return Judged(row, *found)

        tried = [(row, key) for row in rows[:KEY_ROWS] for key in KEYS]
        against = (grade_of(panel, Task(r.id, r.prompt, answer=r.reference), key, r.other and r.answer) for r, key in tried)
        judged, keys = await asyncio.gather(asyncio.gather(*map(one, rows)), asyncio.gather(*against))
    return list(judged), list(keys)


def show(found: dict[str, Any]) -> None:
    from posttrain.evaluation.calibration import shown

    measures = found["measures"]

    def interval(value: dict[str, Any] | None) -> str:
        return "-" if value is None else f"{shown(value['value'])} ({shown(value['low'])} to {shown(value['high'])})"

    people = measures["human_human"]
    lines = [(name, interval(measures[name])) for name in ("agreement", "kappa", "kappa_quadratic", "ac1")]
    lines += [("kappa of people, mean of pairs", shown(people["mean"]) if people else "one rater")]
    lines += [("kappa of a pattern of words", interval(measures["baseline"]["kappa"]))]
    for side in ("yes", "no"):
        lines.append((f"{side}: precision, recall", f"{shown(measures[side]['precision'])}, {shown(measures[side]['recall'])}"))
    lines += [(name, shown(measures[name])) for name in ("swap_consistency", "test_retest", "answered", "parse_failures")]
    lines += [(f"{name}: correlation with its error", shown(measures[name]["error"])) for name in ("length", "assertive_wording")]
    lines += [("answers without content that pass", "{passed} of {n}".format(**measures["master_keys"]))]
    table(("measure", "value"), lines, title=f"{', '.join(found['models'])} on {measures['n']} rows of {found['labels']}")
    if found["trusted"]:
        print("trusted: it keeps every threshold")
    else:
        print("untrusted, for offline evaluation only: " + "; ".join(found["reasons"]))
