"""events.jsonl: what happened to a stage and when: started, resumed, checkpoint, warning, stopped, finished.

Append only, so that a run's whole story survives its restarts. Each line is on the disk before `append_event` returns.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

from posttrain.records.files import disk
from posttrain.records.metrics import read_lines


def append_event(path: Path, event: str, **details: Any) -> None:
    """Add `{"time", "event", ...}`. A torn line left by a kill is closed first, so it cannot swallow this one."""
    line = json.dumps({"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"), "event": event, **details})
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def read_events(path: Path) -> list[dict[str, Any]]:
    return read_lines(path)
