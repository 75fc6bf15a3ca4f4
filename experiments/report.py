"""What the experiment found, as a page of Markdown. Model text is shown as code, cut, without line breaks or backticks."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from experiments import reward_sources
from experiments.recipe import ARMS

HEAD = """# Results of the experiments

Written by `python -m experiments`; do not edit. Each experiment's hypothesis was stated before it was run, in its module."""

COLUMNS = (
    "reward from",
    "gold after",
    "gain",
    "sampled tokens",
    "reward − gold, last quarter",
    "kappa",
    "rewarded, but wrong: first, last quarter",
)


def page(record: Mapping[str, Any]) -> str:
    return "\n".join(lines(record)) + "\n"


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    budget, seeds = record["budget"], record["seeds"]
    yield from (HEAD, "", "## Where the reward comes from", "", str(reward_sources.__doc__).strip(), "")
    yield (
        f"Run on {time.strftime('%Y-%m-%d')}: {budget['model']}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, "
        f"{budget['steps']} steps of {budget['prompts']} sums by {budget['samples']} answers (environment: {budget['episodes']} by "
        f"{budget['samples']} episodes of at most two turns), {budget['held_out']} held-out sums. "
        f"posttrain {version('posttrain')}, torch {version('torch')}, {platform.system()}, {os.cpu_count()} cores. "
        "Intervals are 95 %."
    )
    yield ""
    for seed, result in seeds.items():
        yield from table(seed, result)
    yield from verdict(record["order"])
    yield from examples(seeds)


def table(seed: str, result: Mapping[str, Any]) -> Iterator[str]:
    yield f"Seed {seed}; gold after the cold start {share(result['start'])}."
    yield ""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|" + "---|" * len(COLUMNS)
    for arm in ARMS:
        row = result["arms"][arm]
        gain, last = row["gain"], row["last"]
        cells = [
            arm,
            share(row["gold"]),
            f"{points(gain['difference'])} ({points(gain['low'])} to {points(gain['high'])})",
            f"{row['tokens']:,}",
            number(last["reward"] - last["gold"]),
            number(row["all"]["kappa"]),
            f"{part(row['first'])}, {part(last)}",
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""


def verdict(order: list[Mapping[str, Any]]) -> Iterator[str]:
    """Says of each pair what the interval of its difference allows, whether the seeds agree, and whether it is more than two arms
    with equally true rewards differ."""
    chance = max((abs(pair["difference"]) for pair in order if is_control(pair)), default=0.0)
    for pair in order:
        low, high, each = pair["low"], pair["high"], pair["each"]
        said = "they cannot be told apart"
        if is_control(pair):
            said = "both rewards are equally true, so this is chance (order of tasks, draws), which the intervals do not know"
        elif high < 0 and max(each) < 0:
            said = "the order holds here"
        elif low > 0 and min(each) > 0:
            said = "the order is refuted here"
        if said.startswith("the order") and abs(pair["difference"]) <= chance:
            said = "no more than the control differs by chance, so they cannot be told apart"
        moved = f"{points(pair['difference'])} ({points(low)} to {points(high)}) points of gold"
        yield f"- {pair['later']} beside {pair['earlier']}: {moved} (by seed {', '.join(map(points, each))}): {said}."
    yield ""


def is_control(pair: Mapping[str, Any]) -> bool:
    return (pair["earlier"], pair["later"]) == reward_sources.CONTROL


def examples(seeds: Mapping[str, Any]) -> Iterator[str]:
    yield "What the judge rewarded last and gold refused:"
    yield ""
    for result in seeds.values():
        for each in result["arms"]["judge"]["fooled"]:
            yield f"- `{quoted(each['asked'])}` (right: {each['reference']}): `{quoted(each['answer'])}`"


def quoted(text: str) -> str:
    plain = "".join(each if each.isprintable() else " " for each in text.replace("`", "'"))
    return " ".join(plain.split())[:160] or " "


def share(found: Mapping[str, Any]) -> str:
    return f"{100 * found['value']:.1f} % ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def points(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:+.1f}"


def number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def part(found: Mapping[str, Any]) -> str:
    return "none rewarded" if found["wrong"] is None else f"{100 * found['wrong']:.0f} %"
