"""What people said of a stage's answers, beside what its graders said: agreement and kappa, for the report."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

from posttrain.core.agreement import agreement, kappa, with_interval
from posttrain.diagnosis.load import StageView
from posttrain.records.labels import read_judgements


def spot_checks(stage: StageView) -> str:
    """One line, or nothing where nobody looked."""
    lines = list(read_judgements(stage.paths.labels).values())
    if not lines:
        return ""
    pairs = [(float(line["label"]), float(line["passed"])) for line in lines if line.get("passed") is not None]
    share, found = agreement(pairs), with_interval(pairs, kappa)
    text = f"{len(lines)} judgements of {len({line['rater'] for line in lines})} people"
    if share is not None:
        text += f"; the graders say the same of {100 * share:.0f} % of {len(pairs)}"
    if found.value is not None and found.low is not None:
        text += f", kappa {found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
    between = kappa(of_two(lines))
    return text + (f"; people among themselves: kappa {between:.2f}" if between is not None else "") + "."


def of_two(lines: list[dict[str, object]]) -> list[tuple[float, float]]:
    """The labels of every two people who judged the same answer."""
    same: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for line in lines:
        same[line["suite"], line["task"], line["sample"], line["step"]].append(float(str(line["label"])))
    return [pair for labels in same.values() for pair in combinations(labels, 2)]
