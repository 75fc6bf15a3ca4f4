"""A model card from the records of a run: how the model was made, from what data, what was measured, and what is not known.

In the layout that model hubs read: settings between `---`, then Markdown. Every number stands in the run's records; what they do
not say is said to be unknown. No path of the machine is in it. Recipe texts are shown with nothing hidden in them, and cannot end
their line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.core.config.base import is_path
from posttrain.diagnosis.load import RunView, StageView
from posttrain.diagnosis.show import limits, percent, visible

SAID = ("steps", "epochs", "learning_rate", "batch_size", "prompts_per_step", "samples_per_prompt", "algorithm", "loss", "weights")
"""Settings of a training stage that a reader looks for first."""


@dataclass(frozen=True)
class Exported:
    """What the exporter knows of the files. `licence` is empty where the base does not say."""

    title: str
    base: str
    licence: str
    dtype: str
    adapter: bool
    """Only an adapter was written, to be used with its base."""
    merged: str = ""
    """The adapter that was folded in by the exporter, if one was."""


def card(exported: Exported, run: RunView | None = None, stage: str = "") -> str:
    """README.md of an exported model; `run` and `stage` say where it comes from, if it comes from a run."""
    parts = [head(exported, run, stage), f"# {line(exported.title)}\n", origin(exported, run, stage)]
    if run is not None:
        parts += [made(run, stage), data(run, stage), evaluations(run, stage)]
    parts += [limitations(run, stage), licence(exported), use(exported)]
    return "\n".join(part for part in parts if part)


def head(exported: Exported, run: RunView | None, stage: str) -> str:
    kinds = [each.kind for each in ancestors(run, stage)] if run else []
    settings = {
        "license": exported.licence or "unknown",
        "base_model": exported.base,
        "library_name": "peft" if exported.adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["posttrain", *dict.fromkeys(kinds)],
    }
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()) + "---\n"


def origin(exported: Exported, run: RunView | None, stage: str) -> str:
    what = "An adapter for" if exported.adapter else "Made from"
    if run is None:
        added = f", with the adapter {code(exported.merged)} folded in" if exported.merged else ""
        return f"{what} {code(exported.base)}{added}. It comes from no run, so there is no record of how it was trained.\n"
    recipe = run.recipe
    rows = [
        f"{what} {code(exported.base)} by stage {code(stage)} of run {code(run.name)}, recipe {code(recipe.get('name'))}.\n",
        f"- Source of the recipe: {line(recipe.get('source'))}",
        *(f"- Differs from it: {line(each)}" for each in listed(recipe.get("differs"))),
        f"- Trade-off: {line(recipe.get('tradeoff'))}",
        f"- Seed {line(recipe.get('seed'))}; weights in {exported.dtype}.",
    ]
    if exported.merged:
        rows.append(f"- The adapter {code(exported.merged)} was folded in when it was exported.")
    return "\n".join(rows) + "\n"


def ancestors(run: RunView, stage: str) -> list[StageView]:
    """The stages that lead to this one's weights, the first one first."""
    known = {each.id: each for each in run.stages}
    found: list[StageView] = []
    waiting = [stage]
    while waiting:
        each = known.get(waiting.pop(0))
        if each is not None and each not in found:
            found.append(each)
            waiting += models_of(each)
    return [each for each in run.stages if each in found]


def models_of(stage: StageView) -> list[str]:
    named = [stage.config.get("model"), *listed(stage.config.get("models")), *listed(stage.config.get("adapters"))]
    return [name for name in named if isinstance(name, str)]


def made(run: RunView, stage: str) -> str:
    rows = []
    for each in ancestors(run, stage):
        ignored = ("epochs",) if each.config.get("steps") and each.kind == "sft" else ()
        told = [name for name in SAID if name not in ignored and each.config.get(name) not in (None, [], "")]
        settings = [f"{name} {line(each.config[name])}" for name in told]
        lora = each.config.get("lora")
        if isinstance(lora, Mapping):
            settings.append(f"LoRA of rank {line(lora.get('rank'))}")
        rows.append((each.id, each.kind, ", ".join(map(named, models_of(each))) or "base", "; ".join(settings)))
    return "## How it was made\n\n" + table(("stage", "kind", "starts from", "settings"), rows)


def data(run: RunView, stage: str) -> str:
    rows = []
    for each in ancestors(run, stage):
        summary = mapping(each.result.get("summary"))
        dropped = ", ".join(f"{count} {reason}" for reason, count in mapping(summary.get("dropped")).items()) or "none"
        for key in ("data", "tasks", "preferences"):
            for source in listed(each.config.get(key)):
                told = mapping(source)
                name, count = told.get("source", source), told.get("count")
                rows.append((each.id, key, named(name), str(count) if count else "all there are"))
        if "rows" in summary:
            learnt = f"{summary.get('trained_tokens', 0)} of {summary.get('tokens', 0)} tokens learnt"
            rows.append((each.id, "used", f"{summary['rows']} rows, {learnt}; left out: {dropped}", ""))
    shown = table(("stage", "as", "source", "rows asked for"), rows)
    return f"## Data\n\n{shown}" if rows else "## Data\n\nNo data was read.\n"


def evaluations(run: RunView, stage: str) -> str:
    """Each suite this model was measured on, beside what the base reached on it."""
    before: dict[str, str] = {}
    rows = []
    for each in run.evaluations:
        measured = each.config.get("model", "base")
        for suite, found in each.evaluations.items():
            if measured == "base":
                before.setdefault(suite, rate(found))
            if measured == stage:
                graders = ", ".join(str(mapping(grader).get("kind", grader)) for grader in listed(each.config.get("graders")))
                rows.append((each.id, suite, graders, before.get(suite, "not measured"), rate(found)))
    if not rows:
        return "## Evaluation\n\nThis model was not evaluated in its run.\n"
    shown = table(("stage", "suite", "graders", "base: pass@1", "this model: pass@1"), rows)
    return f"## Evaluation\n\nShares of tasks passed, with 95 % intervals over tasks, from the records of the run.\n\n{shown}"


def rate(found: Any) -> str:
    estimate = mapping(mapping(found).get("pass@1"))
    if estimate.get("value") is None:
        return "no verdict"
    return f"{percent(estimate['value'])} ({limits(estimate)}), n = {line(estimate.get('n'))}"


def limitations(run: RunView | None, stage: str) -> str:
    rows = ["- What was not measured is not known: other tasks and languages, long conversations, safety, bias."]
    if run is not None:
        suites = sum(stage == each.config.get("model", "base") for each in run.evaluations)
        rows.insert(0, f"- {line(run.recipe.get('tradeoff'))}")
        if not suites:
            rows.append("- It was not evaluated after this stage.")
        rows += [f"- Worse than the base, beyond both intervals: {line(each)}" for each in worse(run, stage)]
        for each in ancestors(run, stage):
            if any(str(mapping(source).get("source", source)).startswith("builtin:") for source in listed(each.config.get("data"))):
                rows.append(f"- The demonstrations of {code(each.id)} were written by a program; they are narrow.")
            warned = [e for e in each.events if e.get("event") == "warning"]
            rows += [f"- Warning while training {code(each.id)}: {line(e.get('text'))}" for e in warned[:5]]
    return "## Limitations\n\n" + "\n".join(rows) + "\n"


def worse(run: RunView, stage: str) -> list[str]:
    """Suites, and slices of them, in which even the upper end of this model's interval is below the base's lower end."""
    before: dict[tuple[str, str], Mapping[str, Any]] = {}
    found = []
    for each in run.evaluations:
        measured = each.config.get("model", "base")
        for suite, whole in each.evaluations.items():
            for part, numbers in {"": whole, **mapping(mapping(whole).get("slices"))}.items():
                now = mapping(mapping(numbers).get("pass@1"))
                if measured == "base":
                    before.setdefault((suite, part), now)
                first = before.get((suite, part), {})
                if measured == stage and None not in (now.get("high"), first.get("low")) and now["high"] < first["low"]:
                    rates = f"{percent(now['value'])} ({limits(now)}) against {percent(first['value'])} ({limits(first)})"
                    found.append(f"{suite}{f', {part}' if part else ''}: {rates}")
    return found


def licence(exported: Exported) -> str:
    if exported.licence:
        return f"## Licence\n\nThe base {code(exported.base)} is under {line(exported.licence)}; its terms hold for this model.\n"
    return (
        f"## Licence\n\nThe licence of the base {code(exported.base)} is not recorded here. Look it up before you pass this on.\n"
    )


def use(exported: Exported) -> str:
    if exported.adapter:
        lines = [
            "from peft import AutoPeftModelForCausalLM",
            "",
            'model = AutoPeftModelForCausalLM.from_pretrained("this-folder")  # its base must be where adapter_config.json says',
        ]
    else:
        lines = [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'model = AutoModelForCausalLM.from_pretrained("this-folder")',
            'tokenizer = AutoTokenizer.from_pretrained("this-folder")',
        ]
    return "## Use\n\n```python\n" + "\n".join(lines) + "\n```\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(line(cell).replace("|", "\\|") for cell in row) + " |\n" for row in lines)


def line(value: object) -> str:
    """Text on one line with nothing hidden in it, that starts no block and no HTML."""
    return " ".join(visible("unknown" if value is None else value).split()).replace("<", "&lt;")


def code(value: object) -> str:
    return "`" + line(value).replace("`", "'").replace("&lt;", "<") + "`"


def named(source: object) -> str:
    """A source or model; of a file its name alone, for the card leaves the machine and its paths behind."""
    text = str(source)
    return Path(text).name if is_path(text) else text


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
