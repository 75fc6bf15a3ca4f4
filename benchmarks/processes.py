"""One worker in one fresh process, and what the machine did meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "out"
PYTHONS = {
    name: ROOT / folder / "bin" / "python" for name, folder in (("ours", ".venv"), ("trl", ".venv-trl"), ("vllm", ".venv-vllm"))
}
LIMIT = 3600


class WorkerFailed(Exception):
    """A worker ended without a record."""


def threads() -> int:
    """As many as OMP_NUM_THREADS says, or as this process may use."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def environment() -> dict[str, str]:
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1"}
    return {**os.environ, **quiet, "OMP_NUM_THREADS": str(threads())}


def run(worker: str, python: str, specification: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run a worker to its end and give its record. Raises WorkerFailed with its last words."""
    folder.mkdir(parents=True, exist_ok=True)
    place, record, log = folder / "specification.json", folder / "record.json", folder / f"{worker}.log"
    record.unlink(missing_ok=True)
    scratch = folder / "scratch"
    place.write_text(json.dumps({**specification, "worker": worker, "record": str(record), "scratch": str(scratch)}))
    before, began = processor_times(), time.perf_counter()
    with log.open("w") as output:
        command = [str(PYTHONS[python]), "-m", "benchmarks.workers", str(place)]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=environment())
        try:
            process.wait(LIMIT)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode or not record.exists():
        raise WorkerFailed(f"{worker} ended with {process.returncode}; its last words ({log}):\n{log.read_text()[-1500:]}")
    machine = {"wall_seconds": time.perf_counter() - began, "load": os.getloadavg()[0], **elsewhere(before, processor_times())}
    return {**json.loads(record.read_text()), "machine": machine}


def processor_times() -> list[int]:
    """Ticks since boot by kind: user, nice, system, idle, waiting, interrupts (2), stolen."""
    try:
        return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return []


def elsewhere(before: list[int], after: list[int]) -> dict[str, float]:
    """The share of the processors' time that the host gave to others, and the share that was idle."""
    if not before or sum(after) == sum(before):
        return {}
    spent = [b - a for a, b in zip(before, after, strict=True)]
    return {"stolen": spent[7] / sum(spent), "idle": spent[3] / sum(spent)}
