"""Time, memory and disk a stage may need: orders of magnitude from its settings, before anything runs.

Rates were measured on two x86-64 cores with AMX bf16 on a model of 134.5 M parameters and scale here with 1 / parameters.
On other machines they are off, often by a factor of several; `posttrain check` says that they are estimates. Answers are
counted as 60 % of the longest allowed, prompts and training rows by the constants below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from posttrain.core.config import (
    AverageConfig,
    BestOfNConfig,
    DiagnoseConfig,
    DistillConfig,
    DpoConfig,
    EpisodeConfig,
    EvaluateConfig,
    GrpoConfig,
    MidtrainConfig,
    OnlineDpoConfig,
    PolicyGradientConfig,
    PpoConfig,
    PreferencesConfig,
    Recipe,
    RewardModelConfig,
    SftConfig,
    StageConfig,
    TaskSource,
    TeachConfig,
    TrainConfig,
)
from posttrain.pipeline.models import Shape, shape

MEASURED = 134.5e6
DECODE, TRAIN, FORWARD = 1000.0, 450.0, 2900.0
"""Tokens a second at MEASURED parameters: writing answers, forward and backward, forward alone."""
ANSWER, PROMPT, ROW = 0.6, 60, 130
"""Share of max_tokens an answer takes; tokens of a prompt; tokens of a training row."""
TURNS, RESULT = 3, 40
"""Turns of an episode in an environment, where as many are allowed; tokens of what it answers in each."""
DOCUMENT = 1000
"""Tokens of a document of raw text."""
READ = 2e8
"""Bytes of weights a second that are read, summed and written: a guess, which differs with the disk more than with all else."""
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
        reference = stage.config.parent()
        size = sizes[reference] if reference in sizes else shape(reference)
        sizes[stage.id] = size
        found.append(ESTIMATES[type(stage.config)](stage.config, size, rows) if size else None)
    return found


Made = Mapping[str, int]
"""How many rows each earlier stage writes at most, by id."""


def _evaluate(config: EvaluateConfig, size: Shape, made: Made) -> Estimate:
    count = sum(suite.count for suite in config.suites.values())
    prompt = sum(suite.count * _prompt(suite) for suite in config.suites.values()) / max(1, count)
    return _sampling(count, config.sampling.samples, config.sampling.max_tokens, size, prompt, _turns(config.environment))


def _prompt(source: TaskSource) -> float:
    """Tokens of a prompt. Haystacks say in words how long they are, and English takes 1.3 tokens a word."""
    words = source.options.get("words", 0)
    lengths = words if isinstance(words, Sequence) else [words]
    return max(PROMPT, 1.3 * sum(lengths) / max(1, len(lengths))) if all(isinstance(each, int) for each in lengths) else PROMPT


def _best_of_n(config: BestOfNConfig, size: Shape, made: Made) -> Estimate:
    count, sampling = sum(task.count for task in config.tasks), config.sampling
    return _sampling(count, sampling.samples, sampling.max_tokens, size, turns=_turns(config.environment))


def _turns(environment: EpisodeConfig | None) -> int:
    return 1 if environment is None else min(TURNS, environment.max_turns)


def _sft(config: SftConfig, size: Shape, made: Made) -> Estimate:
    rows = (
        config.steps * config.batch_size
        if config.steps
        else config.epochs * sum(source.count or made.get(source.source, DEFAULT_ROWS) for source in config.data)
    )
    return _training_on(config, rows * min(ROW, config.max_length), size)


def _midtrain(config: MidtrainConfig, size: Shape, made: Made) -> Estimate:
    """Held-out documents are read twice, forward only. The documents of a source without a count are not known."""
    documents = sum(source.count or DEFAULT_ROWS for source in config.data)
    tokens = config.steps * config.batch_size * config.sequence_length if config.steps else config.epochs * documents * DOCUMENT
    measured = 2 * config.validation * len(config.data) * min(DOCUMENT, config.sequence_length)
    largest = max(config.micro_batch_tokens, config.sequence_length)  # a long document is one row, whatever the budget
    training = _training_on(replace(config, micro_batch_tokens=largest), tokens, size)
    return replace(training, seconds=training.seconds + measured * size.parameters / MEASURED / FORWARD)


def _reward_model(config: RewardModelConfig, size: Shape, made: Made) -> Estimate:
    prompts = (
        config.steps * config.batch_size
        if config.steps
        else config.epochs * sum(source.count or made.get(source.source, DEFAULT_ROWS) for source in config.data)
    )
    bodies = config.members if config.ensemble == "adapters" else 1
    return _training_on(config, bodies * prompts * 2 * min(ROW, config.max_length), size)


def _grpo(config: PolicyGradientConfig, size: Shape, made: Made) -> Estimate:
    scale = size.parameters / MEASURED
    group, turns = config.prompts_per_step * config.samples_per_prompt, _turns(config.environment)
    written = turns * group * config.max_tokens * ANSWER
    again = group * (turns - 1) * (PROMPT + RESULT + written / group / 2)  # each turn reads the conversation again
    seen = config.prompts_per_step * PROMPT + written + group * (turns - 1) * RESULT
    scored = seen * (2 if config.kl.coefficient > 0 else 1)
    step = written * scale / DECODE + (scored + again) * scale / FORWARD + config.epochs * seen * scale / TRAIN
    cache = group * (PROMPT + turns * (config.max_tokens + RESULT)) * size.cache_per_token
    rollouts = config.steps // config.save_rollouts_every * group * 400
    memory = RUNTIME_BYTES + 4 * size.parameters + cache + _training(config, size)
    return Estimate(LOADING_S + config.steps * step, memory, _disk(config, size) + rollouts)


def _ppo(config: PpoConfig, size: Shape, made: Made) -> Estimate:
    """GRPO's, and the critic: a forward for the values and a training step of the same tokens, and the rows of ptx."""
    base = _grpo(config, size, made)
    scale, group = size.parameters / MEASURED, config.prompts_per_step * config.samples_per_prompt
    seen = config.prompts_per_step * PROMPT + _turns(config.environment) * group * config.max_tokens * ANSWER
    rows = config.ptx_batch_size * config.minibatches * min(ROW, config.ptx_max_length) if config.ptx else 0
    step = seen * scale / FORWARD + config.epochs * (seen + rows) * scale / TRAIN
    own_body = config.critic_lora is None or config.critic_model is not None or config.critic_reward_model is not None
    trained = size.adapter(config.critic_lora.rank) if config.critic_lora else size.parameters
    memory = base.memory + 16 * trained + (2 * size.parameters if own_body else 0)
    return Estimate(base.seconds + config.steps * step, memory, base.disk + (config.keep_checkpoints + 1) * 12 * trained)


def _teach(config: TeachConfig, size: Shape, made: Made) -> Estimate | None:
    """How long an endpoint takes is not known here."""
    if config.endpoint is not None:
        return None
    teacher = shape(config.teacher or "") or size
    return _sampling(_questions(config), config.sampling.samples, config.sampling.max_tokens, teacher)


def _questions(config: TeachConfig) -> int:
    return sum(task.count for task in config.tasks) + sum(source.count or DEFAULT_ROWS for source in config.data)


def _distill(config: DistillConfig, size: Shape, made: Made) -> Estimate:
    """A forward of the teacher beside the student's step; steps on other's rows sample nothing."""
    teacher = shape(config.teacher) or size
    scale, group = size.parameters / MEASURED, config.prompts_per_step * config.samples_per_prompt
    written = group * config.max_tokens * ANSWER
    own: float = config.prompts_per_step * PROMPT + written
    others = config.batch_size * min(ROW, config.max_length)
    seen = config.on_policy * own + (1 - config.on_policy) * others
    step = config.on_policy * written * scale / DECODE + seen * (scale / TRAIN + teacher.parameters / MEASURED / FORWARD)
    cache = group * (PROMPT + config.max_tokens) * size.cache_per_token
    memory = RUNTIME_BYTES + 4 * size.parameters + 2 * teacher.parameters + cache + _training(config, size)
    return Estimate(LOADING_S + config.steps * step, memory, _disk(config, size) + config.steps * group * 400)


def _preferences(config: PreferencesConfig, size: Shape, made: Made) -> Estimate:
    return _sampling(sum(task.count for task in config.tasks), config.sampling.samples, config.sampling.max_tokens, size)


def _dpo(config: DpoConfig, size: Shape, made: Made) -> Estimate:
    """Two answers a preference, each scored once by the reference; KTO's mismatched answers by both."""
    there = sum(source.count or made.get(source.source, DEFAULT_ROWS) for source in config.data)
    each = 2 * min(ROW, config.max_length)
    seen = (config.steps * config.batch_size if config.steps else config.epochs * there) * each
    scored: float = there * each * (2 if config.loss == "kto" else 0 if config.loss in ("simpo", "orpo") else 1)
    training = _training_on(config, seen, size)
    scored += seen if config.loss == "kto" else 0
    return replace(training, seconds=training.seconds + scored * size.parameters / MEASURED / FORWARD)


def _online_dpo(config: OnlineDpoConfig, size: Shape, made: Made) -> Estimate:
    """Sampling as in GRPO; only the paired answers are learnt from."""
    scale, group = size.parameters / MEASURED, config.prompts_per_step * config.samples_per_prompt
    answer = config.max_tokens * ANSWER
    learnt = config.prompts_per_step * (PROMPT + (2 if config.pairing == "best_worst" else config.samples_per_prompt) * answer)
    step = group * answer * scale / DECODE + learnt * scale * (1 / FORWARD + 1 / TRAIN)
    cache = group * (PROMPT + config.max_tokens) * size.cache_per_token
    memory = RUNTIME_BYTES + (4 if config.lora else 6) * size.parameters + cache + _training(config, size)
    rollouts = config.steps // config.save_rollouts_every * group * 400
    return Estimate(LOADING_S + config.steps * step, memory, _disk(config, size) + rollouts)


def _diagnose(config: DiagnoseConfig, size: Shape, made: Made) -> Estimate:
    return Estimate(1.0, RUNTIME_BYTES, 1_000_000)


def _average(config: AverageConfig, size: Shape, made: Made) -> Estimate:
    """Reads every model once, and holds one file of the result."""
    read = 2 * size.parameters * max(1, len(config.models))
    return Estimate(1.0 + read / READ, RUNTIME_BYTES + min(2 * size.parameters, 2_000_000_000), 2 * size.parameters)


ESTIMATES: dict[type[StageConfig], Callable[[Any, Shape, Made], Estimate | None]] = {
    EvaluateConfig: _evaluate,
    BestOfNConfig: _best_of_n,
    SftConfig: _sft,
    RewardModelConfig: _reward_model,
    MidtrainConfig: _midtrain,
    GrpoConfig: _grpo,
    PpoConfig: _ppo,
    DiagnoseConfig: _diagnose,
    AverageConfig: _average,
    TeachConfig: _teach,
    DistillConfig: _distill,
    PreferencesConfig: _preferences,
    DpoConfig: _dpo,
    OnlineDpoConfig: _online_dpo,
}


def _rows_made(config: StageConfig) -> int:
    """Training rows a stage writes at most."""
    if isinstance(config, BestOfNConfig):
        return config.keep.per_task * sum(task.count for task in config.tasks)
    if isinstance(config, TeachConfig):
        return config.kept.per_task * _questions(config)
    if isinstance(config, PreferencesConfig):
        return sum(task.count for task in config.tasks)
    return config.patch.count if isinstance(config, DiagnoseConfig) and config.patch else 0


def _sampling(tasks: int, samples: int, longest: int, size: Shape, prompt: float = PROMPT, turns: int = 1) -> Estimate:
    scale = size.parameters / MEASURED
    read = tasks * prompt + tasks * samples * (turns - 1) * (prompt + RESULT + turns * longest * ANSWER / 2)
    seconds = LOADING_S + scale * (read / FORWARD + turns * tasks * samples * longest * ANSWER / DECODE)
    cache = min(256, tasks * samples) * (prompt + turns * longest) * size.cache_per_token
    return Estimate(seconds, RUNTIME_BYTES + 4 * size.parameters + int(cache), tasks * samples * 400)


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
