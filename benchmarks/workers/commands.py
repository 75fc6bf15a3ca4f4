"""A command line, from its start to its first result: the process is a child of this one and is ended once that is there."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

LIMIT = 300


def first_line(specification: dict[str, Any]) -> dict[str, Any]:
    """The command is started as often as the seconds ask for, each time in a fresh folder; the first start warms the disk's
    cache. `until` is a file that gets its first line, or a text that the command prints; without it the command runs to its end."""
    case, settings = json.loads(Path(specification["case"]).read_text()), specification["settings"]
    times = [once(case, settings, Path(specification["scratch"])) for _ in range(2)]
    while sum(times[1:]) < specification["seconds"]:
        times.append(once(case, settings, Path(specification["scratch"])))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {"seconds": sum(times[1:]), "work": len(times) - 1, "laps": times[1:], "command_peak_gb": children}


def once(case: dict[str, Any], settings: dict[str, Any], scratch: Path) -> float:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    words = [str(word).format(scratch=scratch, **case["places"]) for word in settings["command"]]
    output = scratch / "output"
    watched = scratch / settings["file"] if "file" in settings else output
    began = time.perf_counter()
    with output.open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, cwd=scratch)
        try:
            while not reached(watched, settings):
                if process.poll() is not None and not reached(watched, settings):
                    if "until" not in settings and process.returncode == 0:
                        break
                    raise SystemExit(f"{words[0]} ended with {process.returncode}:\n{output.read_text()[-1500:]}")
                if time.perf_counter() - began > LIMIT:
                    raise SystemExit(f"{words[0]} did not come to its first result:\n{output.read_text()[-1500:]}")
                time.sleep(0.002)
            return time.perf_counter() - began
        finally:
            process.kill()
            process.wait()


def reached(file: Path, settings: dict[str, Any]) -> bool:
    if "until" not in settings or not file.exists():
        return False
    return settings["until"] in file.read_text()
