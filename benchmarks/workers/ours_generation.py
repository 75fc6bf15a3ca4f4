"""posttrain's native engine writes the case's rows, built as the stages build it."""

from __future__ import annotations

import time
from array import array
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.workers.generation import Rows, case_of, measured, rows_of
from posttrain.core.types import Sampling
from posttrain.generation.native import Request
from posttrain.models.load import load
from posttrain.models.memory import keep_memory
from posttrain.models.view import InferenceView
from posttrain.stages.parts import sampler

NO_STOPS: Any = SimpleNamespace(decode=lambda tokens: "", stop_ids=())


def generate(specification: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    case = case_of(specification)
    keep_memory()
    torch.manual_seed(0)
    loaded = load(case["model"])
    engine = sampler(InferenceView(loaded.model), NO_STOPS)

    def write(rows: Rows) -> int:
        requests = [
            Request(array("i", prompt), Sampling(max_tokens=length), seed=seed) for seed, (prompt, length) in enumerate(rows)
        ]
        return sum(len(completion.tokens) for completion in engine.generate_batch(requests))

    found = {"load_seconds": time.perf_counter() - began, "precision": {"compute": str(loaded.model.dtype).replace("torch.", "")}}
    done = measured(case, specification["seconds"], write)
    greedy = [Request(array("i", prompt), Sampling(temperature=0.0, max_tokens=1), seed=0) for prompt in case["prompts"]]
    first = [completion.tokens[0] for completion in engine.generate_batch(greedy)]
    return {**found, **done, "digest": case["digest"], "first_tokens": first}


def natural_lengths(specification: dict[str, Any]) -> dict[str, Any]:
    """How long the model's own answers to the case's prompts are, end of turn included: a recording, not a measurement."""
    from posttrain import chat

    case = case_of(specification)
    keep_memory()
    loaded = load(case["model"])
    engine = sampler(InferenceView(loaded.model), chat.renderer(loaded.tokenizer))
    limit = specification["settings"]["limit"]
    requests = [
        Request(array("i", prompt), Sampling(max_tokens=limit), seed=seed) for seed, (prompt, _) in enumerate(rows_of(case))
    ]
    return {"lengths": [len(completion.tokens) for completion in engine.generate_batch(requests)]}
