"""metrics.jsonl: one JSON line a step, `{"step": 3, "loss": 0.71, ...}`. It is the truth; every chart is drawn from it.

NaN and infinities are written as the strings "NaN", "Infinity", "-Infinity": JSON has no such numbers, and a NaN that is
left out or smoothed away hides a broken run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from posttrain.records.files import disk, write_atomic


class MetricsWriter:
    """Appends a line a step, each flushed.

    `keep_until` is the last step of the checkpoint that a stage resumes from: later lines, which are about to be written
    again, and a torn last line are cut. None starts an empty file.
    """

    def __init__(self, path: Path, keep_until: int | None = None) -> None:
        self.path = path
        kept = [] if keep_until is None or not path.exists() else [m for m in read_metrics(path) if m["step"] <= keep_until]
        write_atomic(path, "".join(_line(metrics) for metrics in kept))
        self._file = path.open("ab", buffering=0)  # nothing is left to flush when the disk is full

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        with disk(self.path):
            rest = _line({"step": step, **metrics}).encode()
            while rest:
                rest = rest[self._file.write(rest) :]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines, in file order; a torn last line, left by a kill, is skipped. "NaN" comes back as a float."""
    rows = []
    for row in read_lines(path):
        rows.append({k: float(v) if v in ("NaN", "Infinity", "-Infinity") else v for k, v in row.items()})
    return rows


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines, without the torn one a killed process may leave."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _line(metrics: Mapping[str, Any]) -> str:
    return json.dumps({key: _plain(value) for key, value in metrics.items()}, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
