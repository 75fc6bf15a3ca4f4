"""Stages that work like real ones without a model: they write step by step, save, resume, and pass the fault points.

Run as a program: `python fake_stages.py RECIPE RUNS [name]`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from posttrain.core.config import StageConfig
from posttrain.core.errors import Interrupted, PosttrainError, PromiseBroken
from posttrain.core.faults import fault
from posttrain.core.stage import StageContext, StageResult, Stop
from posttrain.records.events import append_event
from posttrain.records.files import prune, saving, write_atomic
from posttrain.records.metrics import MetricsWriter
from posttrain.records.paths import StagePaths

STEPS = 3


def train(config: StageConfig, context: StageContext) -> StageResult:
    """The weights are a number: the parent's, and one more each step, mixed with the seed."""
    paths = StagePaths(context.directory)
    done = sorted(paths.checkpoints.glob("step-*")) if paths.checkpoints.exists() else []
    first, value = 0, _weights(context.references[config.model])  # type: ignore[union-attr]
    if done:
        first, value = (json.loads((done[-1] / "state").read_text())[key] for key in ("next", "value"))
        append_event(paths.events, "from_checkpoint", step=first)
    with MetricsWriter(paths.metrics, keep_until=first - 1 if done else None) as metrics:
        for step in range(first, STEPS):
            if context.stop:
                raise Interrupted("stopped with a checkpoint", signal=context.stop.signal)
            fault("fake:step")
            if fault("fake:broken"):
                raise PromiseBroken("the loss is not finite")
            value = (value * 31 + step + context.seed) % 1_000_003
            metrics.write(step, {"loss": float(value)})
            with saving(paths.checkpoints / f"step-{step:06d}") as temporary:
                (temporary / "state").write_text(json.dumps({"next": step + 1, "value": value}))
            prune(paths.checkpoints, keep=1)
    with saving(paths.model) as temporary:
        (temporary / "weights").write_text(str(value))
    return StageResult({"model": paths.model}, {"steps": STEPS})


def write_rows(config: StageConfig, context: StageContext) -> StageResult:
    paths = StagePaths(context.directory)
    write_atomic(paths.data, json.dumps({"from": _weights(context.references[config.model])}))  # type: ignore[union-attr]
    return StageResult({"data": paths.data}, {})


def measure(config: StageConfig, context: StageContext) -> StageResult:
    value = _weights(context.references[config.model])  # type: ignore[union-attr]
    rate = {"value": value / 1_000_003, "low": 0.0, "high": 1.0, "n": 3}
    return StageResult({}, {"model": context.references[config.model]}, {"test": {"pass@1": rate}})  # type: ignore[union-attr]


def explain(config: StageConfig, context: StageContext) -> StageResult:
    paths = StagePaths(context.directory)
    write_atomic(paths.tasks, "{}\n")
    return StageResult({"tasks": paths.tasks}, {"of": context.references[config.of]})  # type: ignore[union-attr]


def _weights(model: str) -> int:
    file = Path(model) / "weights"
    return int(file.read_text()) if file.exists() else 7


KINDS = {"sft": train, "grpo": train, "best_of_n": write_rows, "evaluate": measure, "diagnose": explain}


if __name__ == "__main__":
    from posttrain.pipeline.parse import load_recipe
    from posttrain.pipeline.run import run

    try:
        run(load_recipe(sys.argv[1]), Path(sys.argv[2]), name=sys.argv[3] if len(sys.argv) > 3 else None, stop=Stop(), kinds=KINDS)
    except PosttrainError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
