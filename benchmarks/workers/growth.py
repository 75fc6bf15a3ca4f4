"""One size of one axis of growth: the least of a few repetitions, after one to warm up, and the memory held."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.workers.ours_generation import NO_STOPS
from posttrain import chat
from posttrain.core.config import DataSource, SftConfig
from posttrain.core.types import Sampling
from posttrain.data import examples
from posttrain.data.store import TokenStoreWriter
from posttrain.generation.native import Request
from posttrain.models.load import load
from posttrain.models.memory import keep_memory
from posttrain.models.view import InferenceView
from posttrain.stages.parts import sampler
from posttrain.stages.sft import Counts, write
from posttrain.training.policy import Policy
from posttrain.training.sft import Encoded, train_step

NEW_TOKENS, PROMPT_TOKENS = 24, 96
SETTINGS = SftConfig(data=[DataSource(source="not-read")], micro_batch_tokens=4096)


def words(count: int, seed: int) -> array[int]:
    draw = random.Random(seed)
    return array("i", [draw.randrange(5, 250) for _ in range(count)])


def repeated(work: Callable[[], object], times: int = 3) -> float:
    work()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def trained(policy: Policy, rows: list[Encoded]) -> Callable[[], object]:
    return lambda: train_step(policy, rows, SETTINGS, 0)


def policy_of(model: str) -> Policy:
    return Policy(load(model), SETTINGS, total_steps=10**6, seed=0)


def row(length: int, seed: int) -> Encoded:
    """A row whose second half is trained."""
    return Encoded(words(length, seed), [0] * (length // 2) + [1] * (length - length // 2))


def sequence(model: str, size: int) -> float:
    return repeated(trained(policy_of(model), [row(size, 0)]))


def batch(model: str, size: int) -> float:
    return repeated(trained(policy_of(model), [row(PROMPT_TOKENS, seed) for seed in range(size)]))


def group(model: str, size: int) -> float:
    """The samples of one prompt, then a training step on them, the prompt computed once."""
    policy = policy_of(model)
    engine, prompt = sampler(policy.view, NO_STOPS), words(PROMPT_TOKENS, 0)

    def once() -> None:
        requests = [Request(prompt, Sampling(max_tokens=NEW_TOKENS), seed) for seed in range(size)]
        answers = [completion.tokens for completion in engine.generate_batch(requests)]
        rows = [Encoded(prompt + tokens, [0] * len(prompt) + [1] * len(tokens)) for tokens in answers]
        train_step(policy, rows, SETTINGS, 0)
        asyncio.run(engine.update(policy.version))

    return repeated(once)


def flight(model: str, size: int) -> float:
    """As many callers as tasks, each waiting for its own answer."""
    engine = sampler(InferenceView(load(model).model), NO_STOPS)

    async def all_of_them() -> None:
        sampling = Sampling(max_tokens=NEW_TOKENS)
        await asyncio.gather(*(engine.generate(words(PROMPT_TOKENS, n), sampling, seed=n) for n in range(size)))

    return repeated(lambda: asyncio.run(all_of_them()))


def rows(model: str, size: int) -> float:
    """A file of rows through the reader, exact duplicates dropped, the chat template and the store, as the stage `sft` does it."""
    from transformers import AutoTokenizer

    renderer = chat.renderer(AutoTokenizer.from_pretrained(model))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "train.jsonl"
        with data.open("w") as file:
            for number in range(size):
                turns = [{"role": "user", "content": f"Say {number}."}, {"role": "assistant", "content": f"Here: {number}."}]
                file.write(json.dumps({"messages": turns}) + "\n")
        config = SftConfig(data=[DataSource(source=str(data))])
        began = time.perf_counter()
        with TokenStoreWriter(Path(folder) / "rows") as writer:
            write(writer, examples(config.data, references={}, base=Path(folder), seed=0), config, renderer, Counts())
        return time.perf_counter() - began


AXES: dict[str, Callable[[str, int], float]] = {
    "sequence": sequence,
    "group": group,
    "batch": batch,
    "flight": flight,
    "rows": rows,
}


def measure(specification: dict[str, Any]) -> dict[str, Any]:
    keep_memory()
    torch.manual_seed(0)
    seconds = AXES[specification["axis"]](specification["model"], specification["size"])
    return {"seconds": seconds, "held_gb": psutil.Process().memory_info().rss / 2**30}
