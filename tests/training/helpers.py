"""Small parts the training tests share: rows, groups, and a policy on the toy model."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Sequence

from posttrain.core.config import GrpoConfig, LoraConfig, MathGrader, SftConfig, TaskSource
from posttrain.core.config.data import DataSource
from posttrain.core.types import Grade, Group, Message, Rollout, Sampling, Task, TokenRow, floats, ints
from posttrain.models.load import Loaded
from posttrain.training.driver import Step
from posttrain.training.policy import Policy

LORA = LoraConfig(rank=4, alpha=8)


class ListRows:
    """Encoded rows in memory."""

    def __init__(self, rows: Sequence[tuple[list[int], list[int]]]) -> None:
        self.rows = [(ints(tokens), array("b", mask)) for tokens, mask in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[array[int], array[int]]:
        return self.rows[index]


def counting_rows(count: int = 24) -> ListRows:
    """Each row is a start and the numbers after it: learnable in a few steps. The first two tokens are given."""
    rows = [[10 + (s + i) % 20 for i in range(6 + s % 3)] for s in range(count)]
    return ListRows([(row, [0, 0] + [1] * (len(row) - 2)) for row in rows])


def sft_config(**changes: object) -> SftConfig:
    settings = {
        "data": [DataSource(source="x")],
        "lora": LORA,
        "learning_rate": 5e-3,
        "batch_size": 6,
        "steps": 6,
        "checkpoint_every": 2,
    }
    return SftConfig(**{**settings, **changes})  # type: ignore[arg-type]


def grpo_config(**changes: object) -> GrpoConfig:
    settings = {
        "tasks": [TaskSource(source="x")],
        "graders": [MathGrader()],
        "lora": LORA,
        "samples_per_prompt": 3,
        "prompts_per_step": 2,
        "steps": 4,
        "max_tokens": 8,
    }
    return GrpoConfig(**{**settings, **changes})  # type: ignore[arg-type]


def policy(loaded: Loaded, config: SftConfig | GrpoConfig, *, total: int = 6, reference: bool = False) -> Policy:
    return Policy(loaded, config, total_steps=total, seed=0, reference=reference)


def rollout(task: Task, sample: int, prompt: list[int], written: list[int], logprobs: list[float], score: float | None) -> Rollout:
    before = len(prompt)
    row = TokenRow(
        ints(prompt + written),
        ints([0] * before + [1] * len(written)),
        floats([0.0] * before + logprobs),
        ints([-1] * before + [0] * len(written)),
    )
    grade = Grade.unscored("no answer") if score is None else Grade(score, passed=score > 0.5)
    return Rollout(task, sample, (*task.messages, Message("assistant", "…")), (row,), Sampling(max_tokens=8), grade=grade)


def task(name: str) -> Task:
    return Task(name, (Message("user", name),))


def group(name: str, prompt: list[int], answers: list[list[int]], scores: list[float | None], logprob: float = -2.0) -> Group:
    made = task(name)
    return Group(
        made,
        tuple(
            rollout(made, i, prompt, answer, [logprob] * len(answer), score)
            for i, (answer, score) in enumerate(zip(answers, scores, strict=True))
        ),
    )


def steps_of(loop: AsyncIterator[Step]) -> list[Step]:
    async def gather() -> list[Step]:
        return [step async for step in loop]

    return asyncio.run(gather())
