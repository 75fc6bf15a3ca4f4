"""TRL's GRPOTrainer on the case's prompts, with transformers' generate. Runs in .venv-trl and imports nothing of posttrain."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer

from benchmarks.digest import digest
from benchmarks.workers.reward import vowels
from benchmarks.workers.stopwatch import Stopwatch
from benchmarks.workers.trl_training import Watched, common, lora_of, model_of, precision, prepare, start_from


def grpo(specification: dict[str, Any]) -> dict[str, Any]:
    from trl import GRPOConfig, GRPOTrainer

    began = time.perf_counter()
    case, settings = json.loads(Path(specification["case"]).read_text()), specification["settings"]
    prepare(settings)
    watch = Stopwatch(1, specification["seconds"])
    rows = len(case["messages"]) * case["samples"]
    shared = common({**settings, "per_device": settings.get("per_device", 8)}, {**case, "batch": rows}, specification["scratch"])
    del shared["train_sampling_strategy"]  # it draws by prompt
    args = GRPOConfig(
        **shared,
        num_generations=case["samples"],
        max_completion_length=case["new"],
        generation_kwargs={"min_new_tokens": case["new"]},
        temperature=1.0,
        beta=case["beta"],
        shuffle_dataset=False,
    )
    watched = Watched(watch, 0)
    wrote: list[int] = []

    def score(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        wrote.append(sum(len(ids) for ids in completion_ids))
        return [vowels(turns[0]["content"]) for turns in completions]

    trainer = GRPOTrainer(
        model=model_of(case, settings),
        reward_funcs=score,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": case["messages"]}),
        processing_class=AutoTokenizer.from_pretrained(case["model"]),
        peft_config=lora_of(case, settings),
        callbacks=[watched],
    )
    start_from(trainer.model, case["adapter"])
    first: dict[str, Any] = {}
    inner = trainer._generate_and_score_completions

    def kept(inputs: list[Any]) -> Any:
        out = inner(inputs)
        if not first:
            first.update(first_round(out, case["samples"]))
        return out

    trainer._generate_and_score_completions = kept
    found = {"load_seconds": time.perf_counter() - began, "precision": precision(trainer.model, args)}
    trainer.train()
    if set(wrote) != {rows * case["new"]}:
        raise SystemExit(f"rounds wrote {sorted(set(wrote))} tokens; expected {rows * case['new']}")
    return {**found, **first, "grad_norm": watched.logs[0]["grad_norm"], **watch.record(case["units"])}


def first_round(out: dict[str, Any], samples: int) -> dict[str, Any]:
    """The prompts that were read, in the order of the case, and what was written with its advantage."""
    rollouts, prompts = [], []
    rows = zip(out["prompt_ids"], out["prompt_mask"], out["completion_ids"], out["completion_mask"], out["advantages"], strict=True)
    for prompt, shown, completion, counted, advantage in rows:
        start, end = prompt[shown.bool()].tolist(), completion[counted.bool()].tolist()
        prompts.append(start)
        rollouts.append({"tokens": start + end, "mask": [0] * len(start) + [1] * len(end), "advantage": float(advantage)})
    return {"digest": digest((prompt, [0] * len(prompt)) for prompt in prompts[::samples]), "rollouts": rollouts}
