"""How much of everything is done, and our way to do it: rollouts, a step of supervised fine-tuning, a round of GRPO.

Built from the parts that stages are built from.
"""

from __future__ import annotations

import asyncio
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.core.config import DataSource, GrpoConfig, LoraConfig, MathGrader, SftConfig, TaskSource
from posttrain.core.types import Completion, Grade, Group, Message, Rollout, Sampling, Task, TokenRow, floats, ints
from posttrain.generation.native import NativeEngine, Request
from posttrain.generation.native.scheduler import padded_rows, padded_tokens
from posttrain.models.view import InferenceView
from posttrain.training.grpo import method_of, training_rows
from posttrain.training.policy import Policy
from posttrain.training.rl_step import update
from posttrain.training.sft import Encoded, train_step


@dataclass(frozen=True)
class Size:
    """`prompts` x `samples` answers of `new` tokens to prompts of `read`; training on `rows` packed rows of `length` tokens."""

    prompts: int = 32
    samples: int = 8
    read: int = 128
    new: int = 256
    rows: int = 16
    length: int = 2048
    micro_batch_tokens: int = 8192

    @property
    def answers(self) -> int:
        return self.prompts * self.samples


FULL = Size()
TOY = Size(prompts=2, samples=2, read=9, new=12, rows=3, length=40, micro_batch_tokens=100)


def prompts_of(shape: dict[str, Any], size: Size) -> list[array[int]]:
    stream = random.Random(0)
    return [ints(stream.randrange(shape["vocab_size"]) for _ in range(size.read)) for _ in range(size.prompts)]


def engine_of(view: InferenceView, size: Size) -> NativeEngine:
    """With room for all answers at once, and no token that ends one."""
    cache = padded_rows(size.answers) * padded_tokens(size.new) + size.prompts * padded_tokens(size.read)
    return NativeEngine(view, lambda tokens: "", (), max_rows=size.answers, cache_tokens=cache)


def write(engine: NativeEngine, prompts: Sequence[array[int]], size: Size, new: int) -> list[Completion]:
    """The answers to a prompt stand together."""
    sampling = Sampling(max_tokens=new)
    asked = [Request(prompt, sampling, 1000 * i + s) for i, prompt in enumerate(prompts) for s in range(size.samples)]
    return engine.generate_batch(asked)


def sft_config(size: Size, *, full: bool) -> SftConfig:
    return SftConfig(
        data=[DataSource(source="builtin:dialogue")],  # not read: rows of random tokens stand in for it
        lora=None if full else LoraConfig(),
        learning_rate=1e-5,
        batch_size=size.rows,
        micro_batch_tokens=size.micro_batch_tokens,
    )


def sft_rows(shape: dict[str, Any], size: Size) -> list[Encoded]:
    stream = random.Random(1)
    mask = ints([0, *[1] * (size.length - 1)])
    return [Encoded(ints(stream.randrange(shape["vocab_size"]) for _ in range(size.length)), mask) for _ in range(size.rows)]


def sft_step(policy: Policy, rows: Sequence[Encoded], config: SftConfig) -> None:
    train_step(policy, rows, config, policy.version)


def grpo_config(size: Size) -> GrpoConfig:
    """All weights trained, no KL, one optimizer step a round: what is also asked of the other side."""
    return GrpoConfig(
        tasks=[TaskSource(source="not-read")],  # the prompts and the reward below stand in for tasks and graders
        graders=[MathGrader()],
        dynamic_sampling=False,
        lora=None,
        learning_rate=1e-6,
        prompts_per_step=size.prompts,
        samples_per_prompt=size.samples,
        max_tokens=size.new,
        micro_batch_tokens=2 * size.micro_batch_tokens,
    )


def reward(tokens: Sequence[int]) -> float:
    """The share of even tokens: costs nothing and differs from answer to answer."""
    return sum(token % 2 == 0 for token in tokens) / len(tokens)


def groups_of(prompts: Sequence[array[int]], done: Sequence[Completion], size: Size) -> list[Group]:
    sampling = Sampling(max_tokens=size.new)
    groups = []
    for i, prompt in enumerate(prompts):
        task, read = Task(str(i), (Message("user", "-"),)), len(prompt)
        rollouts = []
        for sample, one in enumerate(done[i * size.samples : (i + 1) * size.samples]):
            row = TokenRow(
                prompt + one.tokens,
                ints([*[0] * read, *[1] * len(one.tokens)]),
                floats([*[0.0] * read, *one.logprobs]),
                ints([*[-1] * read, *one.versions]),
            )
            rollouts.append(Rollout(task, sample, (), (row,), sampling, grade=Grade(reward(one.tokens))))
        groups.append(Group(task, tuple(rollouts)))
    return groups


def grpo_round(policy: Policy, engine: NativeEngine, prompts: Sequence[array[int]], size: Size, config: GrpoConfig) -> float:
    """Sample, grade, one optimizer step, hand over the weights. Returns how far sampler and trainer were apart, in log-probability:
    the mean over all tokens, which the update itself refuses above its budget."""
    method = method_of(config)
    rows = training_rows(groups_of(prompts, write(engine, prompts, size, size.new), size), config, method)
    metrics = update(policy, rows, config, method, 0.0, seed=0, index=policy.version)
    asyncio.run(engine.update(policy.version))
    return metrics["gap/mean"]
