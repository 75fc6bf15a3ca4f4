"""Time, memory and disk a stage may need: orders of magnitude from its settings, before anything runs.

Rates were measured on two x86-64 cores with AMX bf16 on a model of 134.5 M parameters and scale here with 1 / parameters.
On other machines they are off, often by a factor of several; `posttrain check` says that they are estimates. Answers are
counted as 60 % of the longest allowed, prompts and training rows by the constants below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.core.config import (
    BestOfNConfig,
    DiagnoseConfig,
    EvaluateConfig,
    GrpoConfig,
    Recipe,
    SftConfig,
    StageConfig,
    TrainConfig,
)
from posttrain.pipeline.models import Shape, shape

MEASURED = 134.5e6
DECODE, TRAIN, FORWARD = 1000.0, 450.0, 2900.0
"""Tokens a second at MEASURED parameters: writing answers, forward and backward, forward alone."""
ANSWER, PROMPT, ROW = 0.6, 60, 130
"""Share of max_tokens an answer takes; tokens of a prompt; tokens of a training row."""
LOADING_S = 6.0
DEFAULT_ROWS = 1000
RUNTIME_BYTES = 1_000_000_000
"""Python, torch and the libraries, before any model."""


@dataclass(frozen=True)
class Estimate:
    """Seconds, peak bytes of memory, bytes left on the disk. None where the model's size is not known."""

    seconds: float
    memory: int
    disk: int


def estimate(recipe: Recipe) -> list[Estimate | None]:
    """One estimate a stage. Every stage's model has the size of the one it descends from."""
    sizes: dict[str, Shape | None] = {"base": shape(recipe.model)}
    rows: dict[str, int] = {}
    found: list[Estimate | None] = []
    for stage in recipe.stages:
        rows[stage.id] = _rows_made(stage.config)
        reference = getattr(stage.config, "model", "base")
        size = sizes[reference] if reference in sizes else shape(reference)
        sizes[stage.id] = size
        found.append(ESTIMATES[type(stage.config)](stage.config, size, rows) if size else None)
    return found


Made = Mapping[str, int]
"""How many rows each earlier stage writes at most, by id."""


def _evaluate(config: EvaluateConfig, size: Shape, made: Made) -> Estimate:
    count = sum(suite.count for suite in config.suites.values())
    return _sampling(count, config.sampling.samples, config.sampling.max_tokens, size)


def _best_of_n(config: BestOfNConfig, size: Shape, made: Made) -> Estimate:
    return _sampling(sum(task.count for task in config.tasks), config.sampling.samples, config.sampling.max_tokens, size)


def _sft(config: SftConfig, size: Shape, made: Made) -> Estimate:
    rows = (
        config.steps * config.batch_size
        if config.steps
        else config.epochs * sum(source.count or made.get(source.source, DEFAULT_ROWS) for source in config.data)
    )
    return _training_on(config, rows * min(ROW, config.max_length), size)


def _grpo(config: GrpoConfig, size: Shape, made: Made) -> Estimate:
    scale = size.parameters / MEASURED
    group = config.prompts_per_step * config.samples_per_prompt
    written = group * config.max_tokens * ANSWER
    seen = config.prompts_per_step * PROMPT + written
    scored = seen * (2 if config.kl.coefficient > 0 else 1)
    step = written * scale / DECODE + scored * scale / FORWARD + config.epochs * seen * scale / TRAIN
    cache = group * (PROMPT + config.max_tokens) * size.cache_per_token
    rollouts = config.steps // config.save_rollouts_every * group * 400
    memory = RUNTIME_BYTES + 4 * size.parameters + cache + _training(config, size)
    return Estimate(LOADING_S + config.steps * step, memory, _disk(config, size) + rollouts)


def _diagnose(config: DiagnoseConfig, size: Shape, made: Made) -> Estimate:
    return Estimate(1.0, RUNTIME_BYTES, 1_000_000)


ESTIMATES: dict[type[StageConfig], Callable[[Any, Shape, Made], Estimate]] = {
    EvaluateConfig: _evaluate,
    BestOfNConfig: _best_of_n,
    SftConfig: _sft,
    GrpoConfig: _grpo,
    DiagnoseConfig: _diagnose,
}


def _rows_made(config: StageConfig) -> int:
    """Training rows a stage writes at most."""
    if isinstance(config, BestOfNConfig):
        return config.keep.per_task * sum(task.count for task in config.tasks)
    return config.patch.count if isinstance(config, DiagnoseConfig) and config.patch else 0


def _sampling(tasks: int, samples: int, longest: int, size: Shape) -> Estimate:
    scale = size.parameters / MEASURED
    seconds = LOADING_S + scale * (tasks * PROMPT / FORWARD + tasks * samples * longest * ANSWER / DECODE)
    cache = min(256, tasks * samples) * (PROMPT + longest) * size.cache_per_token
    return Estimate(seconds, RUNTIME_BYTES + 4 * size.parameters + cache, tasks * samples * 400)


def _training_on(config: TrainConfig, tokens: float, size: Shape) -> Estimate:
    """Forward and backward over so many tokens."""
    seconds = LOADING_S + tokens * size.parameters / MEASURED / TRAIN
    return Estimate(seconds, RUNTIME_BYTES + 2 * size.parameters + _training(config, size), _disk(config, size))


def _training(config: TrainConfig, size: Shape) -> int:
    """Bytes of master weights, gradients and two moments in fp32 of what is trained, and the activations of a micro batch."""
    trained = size.adapter(config.lora.rank) if config.lora else size.parameters
    activations = config.micro_batch_tokens * size.layers * (8 * size.hidden + 4 * size.mlp) * 2
    logits = config.micro_batch_tokens * size.vocabulary * 2
    return 16 * trained + activations + logits


def _disk(config: TrainConfig, size: Shape) -> int:
    """The merged model, the adapter, and the checkpoints kept plus the one being written."""
    trained = size.adapter(config.lora.rank) if config.lora else size.parameters
    return 2 * size.parameters + (4 * trained if config.lora else 0) + (config.keep_checkpoints + 1) * 12 * trained


def total(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """Of all stages: times and disk add up, memory is the largest."""
    known = [each for each in estimates if each is not None]
    if len(known) < len(estimates):
        return None
    return Estimate(sum(each.seconds for each in known), max(each.memory for each in known), sum(each.disk for each in known))
