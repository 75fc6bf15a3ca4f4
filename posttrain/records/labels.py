"""labels.jsonl of a stage: what people said of its answers, one line a judgement.

A line holds the question and the answer themselves, so that the file can calibrate a judge as it is (data/labels.py reads it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.records.events import append_event, read_events
from posttrain.records.files import write_atomic

Key = tuple[str, str, int, int, str]
"""Suite, task, sample, step, rater."""


def add_label(path: Path, **line: Any) -> None:
    append_event(path, "label", **line)


def take_back(path: Path, key: Key) -> None:
    """Write the file again without one judgement."""
    left = [line for known, line in read_judgements(path).items() if known != key]
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in left))


def read_judgements(path: Path) -> dict[Key, dict[str, Any]]:
    """In the order in which they were said."""
    return {key_of(line): line for line in read_events(path) if line.get("event") == "label"}


def key_of(line: Mapping[str, Any]) -> Key:
    return (str(line["suite"]), str(line["task"]), int(line["sample"]), int(line["step"]), str(line["rater"]))
