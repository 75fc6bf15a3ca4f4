"""What every training method shares: record each step, look at the monitors, checkpoint, stop cleanly, resume.

A loop is an async generator of Steps and does none of this itself.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import save_file
from torch import Tensor

from posttrain.core.config import TrainConfig
from posttrain.core.errors import Interrupted, PromiseBroken
from posttrain.core.faults import fault
from posttrain.core.protocols import Reporter
from posttrain.core.stage import Stop
from posttrain.core.types import Group
from posttrain.models.packing import Batch
from posttrain.records.events import append_event
from posttrain.records.files import disk
from posttrain.records.metrics import MetricsWriter, read_metrics
from posttrain.records.paths import StagePaths
from posttrain.records.rollouts import write_rollouts
from posttrain.training import checkpoint


@dataclass(frozen=True)
class Step:
    """One finished step of a loop. `state` is what the loop needs to go on after it; `shown` is drawn beside the bar."""

    index: int
    metrics: Mapping[str, float]
    state: Mapping[str, Any]
    groups: Sequence[Group] = ()
    advantages: Mapping[tuple[str, int], float] = field(default_factory=dict)
    shown: Mapping[str, float] = field(default_factory=dict)


class BrokenStep(Exception):
    """A loop must not go on. The step does not count: a resumed run does it again. The driver writes down its metrics and batch."""

    def __init__(
        self, index: int, metrics: Mapping[str, float], *, reason: str = "", fix: str = "", batch: Batch | None = None
    ) -> None:
        bad = ", ".join(sorted(name for name, value in metrics.items() if not math.isfinite(value)))
        super().__init__(reason or f"{bad} is not finite")
        self.index, self.metrics, self.batch = index, metrics, batch
        self.fix = fix or "Try a lower learning_rate or max_grad_norm, then run again."


class Concern(Protocol):
    """What a monitor says of the run; `stop` ends it."""

    @property
    def severity(self) -> str: ...
    @property
    def monitor(self) -> str: ...
    @property
    def text(self) -> str: ...


class Trained(Protocol):
    """What is trained, as the driver sees it: a policy, a policy with its critic, a reward model. `version` counts steps."""

    version: int

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs beside the loop's own state."""

    def load_state(self, tensors: Mapping[str, Tensor], version: int) -> None: ...


Watch = Callable[[Sequence[Mapping[str, float]], Sequence[Group]], Sequence[Concern]]


@dataclass(frozen=True)
class Resumed:
    """Where to go on: the number of whole steps done, and the loop's state after them."""

    steps: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)


def resume(policy: Trained, paths: StagePaths, reporter: Reporter) -> Resumed:
    """Load the newest whole checkpoint into the policy, if there is one."""
    found, problems = checkpoint.latest(paths.checkpoints)
    for problem in problems:
        append_event(paths.events, "warning", text=f"passed over a checkpoint: {problem}")
        reporter.say(f"passed over a checkpoint: {problem}")
    if found is None:
        append_event(paths.events, "started")
        return Resumed()
    policy.load_state(found.tensors, found.version)
    append_event(paths.events, "resumed", step=found.step)
    reporter.say(f"resumed after step {found.step}")
    return Resumed(found.step, found.state)


async def drive(
    loop: AsyncIterator[Step],
    policy: Trained,
    paths: StagePaths,
    config: TrainConfig,
    *,
    start: Resumed,
    total: int,
    reporter: Reporter,
    stop: Stop,
    watch: Watch = lambda history, groups: (),
    keep_rollouts_every: int = 1,
    title: str = "",
) -> list[dict[str, Any]]:
    """Run a loop to its end. Returns the metrics of all steps, those before a resume included."""
    reporter.start(title or paths.directory.name, total)
    reporter.advance(start.steps)
    warned: set[tuple[str, str]] = set()
    with MetricsWriter(paths.metrics, keep_until=start.steps - 1) as metrics:
        history = read_metrics(paths.metrics)
        try:
            async for step in loop:
                metrics.write(step.index, step.metrics)
                history.append({"step": step.index, **step.metrics})
                if step.groups and step.index % keep_rollouts_every == 0:
                    write_rollouts(paths.rollouts / f"step-{step.index:06d}.parquet", step.index, step.groups, step.advantages)
                reporter.advance(1, **step.shown)
                _heed(watch(history, step.groups), paths, reporter, warned, step.index)
                fault("step:done")
                done = step.index + 1
                due = done % config.checkpoint_every == 0 and done < total
                if due or stop:
                    _save(policy, paths, config, done, step.state)
                if stop:
                    raise Interrupted(
                        f"stopped after step {done} of {total}; a checkpoint was written.",
                        signal=stop.signal,
                        fix="Run the same command again to go on.",
                    )
        except BrokenStep as broken:
            raise _record_broken(broken, metrics, paths) from broken
    reporter.finish()
    return history


def _save(policy: Trained, paths: StagePaths, config: TrainConfig, done: int, state: Mapping[str, Any]) -> None:
    checkpoint.save(
        paths.checkpoints, checkpoint.Checkpoint(done, policy.version, state, policy.state()), keep=config.keep_checkpoints
    )
    append_event(paths.events, "checkpoint", step=done)


def _heed(concerns: Sequence[Concern], paths: StagePaths, reporter: Reporter, warned: set[tuple[str, str]], index: int) -> None:
    """Say each monitor's concern once; end the run where one asks for it."""
    for concern in concerns:
        if (concern.monitor, concern.severity) not in warned:
            warned.add((concern.monitor, concern.severity))
            append_event(paths.events, "warning", step=index, severity=concern.severity, monitor=concern.monitor, text=concern.text)
            if concern.severity != "note":
                reporter.say(f"{concern.monitor}: {concern.text}")
        if concern.severity == "stop":
            raise PromiseBroken(f"{concern.monitor} stopped the run at step {index}: {concern.text}")


def _record_broken(broken: BrokenStep, metrics: MetricsWriter, paths: StagePaths) -> PromiseBroken:
    """Write the NaN where it can be seen and the batch where it can be studied."""
    metrics.write(broken.index, broken.metrics)
    where = f" The batch is in {_dump(broken, broken.batch, paths)}." if broken.batch is not None else ""
    append_event(paths.events, "stopped", step=broken.index, text=str(broken))
    return PromiseBroken(f"step {broken.index}: {broken}. Nothing of this step is kept.{where}", fix=broken.fix)


def _dump(broken: BrokenStep, batch: Batch, paths: StagePaths) -> Path:
    path = paths.directory / f"broken-step-{broken.index:06d}.safetensors"
    tensors = {"tokens": batch.tokens_N, "source": batch.source_L, "target": batch.target_L, "row": batch.row_L}
    streams = {f"stream/{name}": stream for name, stream in batch.streams.items()}
    with disk(path):
        save_file({name: tensor.contiguous() for name, tensor in {**tensors, **streams}.items()}, path)
    return path
