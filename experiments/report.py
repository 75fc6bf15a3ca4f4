"""What the experiment found, as a page of Markdown. Model text is shown as code, cut, without line breaks or backticks."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from experiments import reward_sources
from experiments.recipe import ARMS

HEAD = """# Results of the experiments

Written by `python -m experiments`; do not edit. Each experiment's hypothesis was stated before it was run, in its module."""


def page(record: Mapping[str, Any]) -> str:
    return "\n".join(lines(record)) + "\n"


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    budget, seeds = record["budget"], record["seeds"]
    yield from (HEAD, "", "## Where the reward comes from", "", str(reward_sources.__doc__).strip(), "")
    yield (
        f"Run on {time.strftime('%Y-%m-%d')}: {budget['model']}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, "
        f"{budget['steps']} steps of {budget['prompts']} sums by {budget['samples']} answers (environment: {budget['episodes']} by "
        f"{budget['samples']} episodes of at most two turns), {budget['held_out']} held-out sums. "
        f"posttrain {version('posttrain')}, torch {version('torch')}, {platform.system()}. Intervals are 95 %."
    )
    yield ""
    for seed, result in seeds.items():
        yield from table(seed, result)
    yield from verdict(record["order"])
    yield from examples(seeds)


def table(seed: str, result: Mapping[str, Any]) -> Iterator[str]:
    yield f"Seed {seed}; gold after the cold start {share(result['start'])}."
    yield ""
    yield "| reward from | gold after | gain | sampled tokens | kappa, reward and gold | rewarded, but wrong: first, last quarter |"
    yield "|---|---|---|---|---|---|"
    for arm in ARMS:
        row = result["arms"][arm]
        gain = row["gain"]
        yield (
            f"| {arm} | {share(row['gold'])} | {points(gain['difference'])} ({points(gain['low'])} to {points(gain['high'])}) "
            f"| {row['tokens']:,} | {number(row['all']['kappa'])} | {part(row['first'])}, {part(row['last'])} |"
        )
    yield ""


def verdict(order: list[Mapping[str, Any]]) -> Iterator[str]:
    """Says of each pair what the interval of its difference allows."""
    for pair in order:
        low, high = pair["low"], pair["high"]
        said = "the order holds here" if high < 0 else "the order is refuted here" if low > 0 else "they cannot be told apart"
        yield (
            f"- {pair['later']} after {pair['earlier']}: {points(pair['difference'])} "
            f"({points(low)} to {points(high)}) on gold: {said}."
        )
    yield ""


def examples(seeds: Mapping[str, Any]) -> Iterator[str]:
    yield "What the judge rewarded last and gold refused:"
    yield ""
    for result in seeds.values():
        for each in result["arms"]["judge"]["fooled"]:
            yield f"- `{quoted(each['asked'])}` (right: {each['reference']}): `{quoted(each['answer'])}`"


def quoted(text: str) -> str:
    return " ".join(text.replace("`", "'").split())[:160] or " "


def share(found: Mapping[str, Any]) -> str:
    return f"{100 * found['value']:.1f} % ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def points(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:+.1f}"


def number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def part(found: Mapping[str, Any]) -> str:
    return "none rewarded" if found["wrong"] is None else f"{100 * found['wrong']:.0f} %"
