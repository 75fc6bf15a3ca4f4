"""What a best-of-N stage bought and threw away, from its result: pass@k and its KL for each k, rows kept, reasons for dropping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from posttrain.diagnosis.charts import Series, line_chart
from posttrain.diagnosis.load import RunView


@dataclass(frozen=True)
class Selection:
    stage: str
    kept: object
    tasks: object
    dropped: Mapping[str, Any]
    curve: Sequence[Mapping[str, float]]
    """`k`, `pass@k` (unbiased) and `kl`, the most that choosing the best of k moves away from the model, in nats."""
    svg: Markup


def selections(run: RunView) -> list[Selection]:
    found = []
    for index, stage in enumerate(run.stages):
        summary = stage.result.get("summary")
        curve = summary.get("curve") if isinstance(summary, Mapping) else None
        if not isinstance(summary, Mapping) or not isinstance(curve, list) or not curve:
            continue
        points = [point for point in curve if isinstance(point, Mapping) and {"k", "pass@k", "kl"} <= point.keys()]
        line = Series("pass@k", [float(point["k"]) for point in points], [float(point["pass@k"]) for point in points])
        svg = line_chart("pass@k over k", [line], share=True, name=f"n{index}")
        dropped = summary.get("dropped")
        reasons = dropped if isinstance(dropped, Mapping) else {}
        found.append(Selection(stage.id, summary.get("kept"), summary.get("tasks"), reasons, points, svg))
    return found
