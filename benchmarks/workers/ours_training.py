"""posttrain's own training steps, built from the parts that its stages build them from, without their records."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.digest import digest
from benchmarks.workers.stopwatch import Stopwatch
from posttrain.core.config import DataSource, DpoConfig, LoraConfig, PreferenceSource, SftConfig, TrainConfig
from posttrain.core.types import Pair
from posttrain.models.load import load
from posttrain.models.memory import keep_memory
from posttrain.training import dpo as dpo_loop
from posttrain.training import sft as sft_loop
from posttrain.training.policy import Policy

SAME_AS_TRL = {"beta2": 0.999, "weight_decay": 0.0}
"""What our defaults differ in from TRL's; everything else below is ours as a user gets it."""


def lora_of(case: dict[str, Any], settings: dict[str, Any]) -> LoraConfig | None:
    return None if settings.get("full") else LoraConfig(rank=case["rank"], alpha=case["alpha"])


def started(policy: Policy, adapter: str | None) -> Policy:
    """The policy with the case's adapter in place of its own random one."""
    if policy.config.lora is not None and adapter:
        factors = {f"master/{name}": factor for name, factor in load_file(adapter).items()}
        policy.load_state({**factors, "random/torch": torch.random.get_rng_state()}, 0)
    return policy


def precision(policy: Policy) -> dict[str, str]:
    """In what the products are computed and in what the trained weights are kept."""
    masters = {str(master.dtype) for master in policy.optimizer.masters.values()}
    return {"compute": name_of(str(policy.model.dtype)), "masters": name_of("/".join(sorted(masters)))}


def name_of(dtypes: str) -> str:
    return dtypes.replace("torch.", "")


def sft(specification: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    case, settings = json.loads(Path(specification["case"]).read_text()), specification["settings"]
    keep_memory()
    config = SftConfig(
        data=[DataSource(source="builtin:dialogue")],  # not read: the case's rows stand in for it
        lora=lora_of(case, settings),
        learning_rate=case["learning_rate"],
        batch_size=case["batch"],
        **SAME_AS_TRL,
        **settings.get("config", {}),
    )
    policy = Policy(load(case["model"]), config, total_steps=10**6, seed=0)
    started(policy, case["adapter"])
    watch = Stopwatch(case["steps"], specification["seconds"])
    found: dict[str, Any] = {"load_seconds": time.perf_counter() - began, "precision": precision(policy)}
    losses = train(policy, case, config, watch, found, specification.get("curve", 0))
    return {**found, **watch.record(case["units"]), "curve": losses}


def train(
    policy: Policy, case: dict[str, Any], config: TrainConfig, watch: Stopwatch, found: dict[str, Any], curve: int
) -> list[float]:
    """Steps until the watch says so, or as many as a curve has. Fills in what the parity gate asks of the first one."""
    rows = [sft_loop.Encoded(row["tokens"], row["mask"]) for row in case["rows"]]
    losses: list[float] = []
    while True:
        step = len(losses)
        number = step % (len(rows) // case["batch"]) if curve else watch.batch(step)
        batch = rows[case["batch"] * number : case["batch"] * (number + 1)]
        metrics = sft_loop.train_step(policy, batch, config, step)
        losses.append(metrics["loss"])
        if step == 0:
            seen = digest((row.tokens, row.mask) for row in batch)
            found |= {"digest": seen, "loss": metrics["loss"], "grad_norm": metrics["grad_norm"]}
        done = watch.lap()
        if (curve and len(losses) == curve) or (not curve and done):
            return losses


def dpo(specification: dict[str, Any]) -> dict[str, Any]:
    """As the stage does it: the reference's log-probabilities of all answers first, then the steps. Both are timed."""
    began = time.perf_counter()
    case, settings = json.loads(Path(specification["case"]).read_text()), specification["settings"]
    keep_memory()
    config = DpoConfig(
        data=[PreferenceSource(source="not-read")],  # the case's pairs stand in for it
        lora=lora_of(case, settings),
        learning_rate=case["learning_rate"],
        batch_size=case["batch"],
        beta=case["beta"],
        **SAME_AS_TRL,
    )
    policy = Policy(load(case["model"]), config, total_steps=10**6, seed=0)
    started(policy, case["adapter"])
    watch, aim = Stopwatch(case["steps"], specification["seconds"]), dpo_loop.objective(config)
    found: dict[str, Any] = {"load_seconds": time.perf_counter() - began, "precision": precision(policy)}
    elements: list[dpo_loop.Compared] = []
    for step in itertools.count():
        if step == 0 or (step - 1) % case["steps"] == 0:
            wanted = [0] if step == 0 else list(range(1, 1 + case["steps"]))
            elements = referenced(policy, case, wanted, config.micro_batch_tokens)
        place = 0 if step == 0 else (step - 1) % case["steps"]
        batch = elements[case["batch"] * place : case["batch"] * (place + 1)]
        metrics = dpo_loop.train_step(policy, batch, aim, config, step)
        if step == 0:
            seen = digest((answer.tokens, answer.mask) for element in batch for answer in element.answers)
            found |= {"digest": seen, "loss": metrics["loss"], "grad_norm": metrics["grad_norm"]}
        if watch.lap():
            break
    return {**found, **watch.record(case["units"])}


def referenced(policy: Policy, case: dict[str, Any], batches: list[int], budget: int) -> list[dpo_loop.Compared]:
    """The elements of some batches with the log-probabilities of the model that the adapter was put on."""
    pairs = [pair for number in batches for pair in case["pairs"][case["batch"] * number : case["batch"] * (number + 1)]]
    plain = [
        dpo_loop.Compared(
            [dpo_loop.Answer(pair[side]["tokens"], pair[side]["mask"]) for side in ("chosen", "rejected")], [Pair(0, 1)]
        )
        for pair in pairs
    ]
    sums = dpo_loop.row_sums(policy.reference_logprobs, plain, budget, policy.device)
    return [replace(element, reference=of) for element, of in zip(plain, sums, strict=True)]
