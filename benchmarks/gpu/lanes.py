"""What is measured, on which model, and what is to be reached. The visible list; lanes with a target come first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.gpu import plain, work
from benchmarks.gpu.arithmetic import decode_bytes, training_operations, utilisation
from benchmarks.gpu.device import Machine, finish, free, seconds
from benchmarks.gpu.shapes import SHAPES, loaded, model_of
from benchmarks.gpu.work import Size
from posttrain.core.errors import PromiseBroken
from posttrain.models.view import InferenceView
from posttrain.training.policy import Policy

LARGEST_GAP = 0.1
"""Mean distance of log-probabilities above which two sides do not compute the same; bf16 alone makes less."""


@dataclass(frozen=True)
class Result:
    """`rate` is ours, tokens a second: written ones, or trained ones in a training lane. `value` is what `measure` names."""

    lane: str
    model: str
    rate: float
    measure: str
    value: float
    target: float | None
    peak_gb: float = 0.0
    other: float | None = None
    gap: float | None = None


def twice(machine: Machine, ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Seconds of each: theirs, ours, ours, theirs, so that a machine that drifts drifts for both."""
    times = [seconds(machine.device, work) for work in (theirs, ours, ours, theirs)]
    return times[1] + times[2], times[0] + times[3]


def rollouts(model: str, size: Size, machine: Machine, target: float | None) -> Result:
    """All answers, ours beside transformers' `generate`, with the same weights."""
    own, other = (model_of(model, machine.device, plain=is_plain) for is_plain in (False, True))
    other.load_state_dict(own.state_dict())
    prompts, engine = work.prompts_of(SHAPES[model], size), work.engine_of(InferenceView(own), size)
    done = work.write(engine, prompts, size, size.new)  # warms up and records
    apart = plain.gap(other, prompts, done, size.samples)
    if apart > LARGEST_GAP:
        raise PromiseBroken(f"{model}: the engine's log-probabilities are {apart:.3f} from a plain forward's.")
    plain.generate(other, prompts, size, 4)
    ours, theirs = twice(
        machine,
        lambda: work.write(engine, prompts, size, size.new),
        lambda: plain.generate(other, prompts, size, size.new),
    )
    wrote = 2 * size.answers * size.new
    return Result("rollouts", model, wrote / ours, "x generate", theirs / ours, target, other=wrote / theirs, gap=apart)


def decode(model: str, size: Size, machine: Machine, target: float | None) -> Result:
    """Decode steps alone, what it takes to write all tokens less what it takes to write the first, against the time to read what
    they must read."""
    prompts = work.prompts_of(SHAPES[model], size)
    engine = work.engine_of(InferenceView(model_of(model, machine.device)), size)
    work.write(engine, prompts, size, size.new)
    spent = [
        seconds(machine.device, lambda new=new: work.write(engine, prompts, size, new))  # type: ignore[misc]
        for new in (1, size.new, size.new, 1)
    ]
    steps, taken = size.new - 1, max((spent[1] + spent[2] - spent[0] - spent[3]) / 2, 1e-9)
    bound = decode_bytes(SHAPES[model], [size.read] * size.prompts, size.answers, steps) / machine.bandwidth
    return Result("decode", model, size.answers * steps / taken, "of bandwidth", bound / taken, target)


def sft(model: str, size: Size, machine: Machine, target: float | None, *, full: bool = True) -> Result:
    config, rows = work.sft_config(size, full=full), work.sft_rows(SHAPES[model], size)
    policy = Policy(loaded(model, machine.device), config, total_steps=1000, seed=0)
    for _ in range(2):  # kernels are compiled, memory is taken
        work.sft_step(policy, rows, config)
    taken = sum(seconds(machine.device, lambda: work.sft_step(policy, rows, config)) for _ in range(3)) / 3
    lengths, scored = [size.length] * size.rows, size.rows * (size.length - 1)
    operations = training_operations(SHAPES[model], lengths, scored, full=full)
    name = "sft" if full else "sft-lora"
    return Result(name, model, sum(lengths) / taken, "MFU", utilisation(operations, taken, machine.peak), target)


def sft_lora(model: str, size: Size, machine: Machine, target: float | None) -> Result:
    return sft(model, size, machine, target, full=False)


def grpo(model: str, size: Size, machine: Machine, target: float | None) -> Result:
    """A round end to end: sample, grade, one optimizer step, and the sampler holds the new weights."""
    config, prompts = work.grpo_config(size), work.prompts_of(SHAPES[model], size)
    policy = Policy(loaded(model, machine.device), config, total_steps=1000, seed=0)
    engine = work.engine_of(policy.view, size)
    other = model_of(model, machine.device, plain=True)
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-6, fused=True)
    gaps = [work.grpo_round(policy, engine, prompts, size, config) for _ in range(2)]
    plain.grpo_round(other, optimizer, prompts, size)
    ours, theirs = twice(
        machine,
        lambda: gaps.append(work.grpo_round(policy, engine, prompts, size, config)),
        lambda: plain.grpo_round(other, optimizer, prompts, size),
    )
    wrote = 2 * size.answers * size.new
    return Result("grpo", model, wrote / ours, "x transformers", theirs / ours, target, other=wrote / theirs, gap=max(gaps))


Run = Callable[[str, Size, Machine, float | None], Result]
RUNS: dict[str, Run] = {"rollouts": rollouts, "decode": decode, "sft": sft, "sft-lora": sft_lora, "grpo": grpo}
LANES: list[tuple[str, str, float | None]] = [
    ("rollouts", "qwen2.5-0.5b", 15.0),
    ("decode", "qwen2.5-1.5b", 0.35),
    ("sft", "qwen2.5-1.5b", 0.45),
    ("grpo", "qwen2.5-0.5b", 4.0),
    ("sft-lora", "qwen2.5-7b", None),
    ("decode", "qwen2.5-7b", None),
    ("rollouts", "smollm2-135m", None),
    ("sft", "smollm2-135m", None),
    ("sft", "qwen2.5-0.5b", None),
    ("rollouts", "qwen2.5-1.5b", None),
]
TOY_LANES: list[tuple[str, str, float | None]] = [(lane, "toy", None) for lane in RUNS]


def measure(lane: str, model: str, target: float | None, size: Size, machine: Machine) -> Result:
    """One lane, with nothing left of the one before, and the most memory it held."""
    free(machine.device)
    if machine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(machine.device)
    result = RUNS[lane](model, size, machine, target)
    finish(machine.device)
    peak = torch.cuda.max_memory_allocated(machine.device) / 2**30 if machine.device.type == "cuda" else 0.0
    return Result(**{**vars(result), "peak_gb": peak})
