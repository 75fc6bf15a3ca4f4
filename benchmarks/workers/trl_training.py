"""TRL's own trainers on the case's rows. Runs in .venv-trl and imports nothing of posttrain.

`default` is TRL as it comes: the model in fp32 under bf16 autocast, gradient checkpointing. `tuned` settings come with the
specification: the model in bf16 where that keeps the precision class, no checkpointing, freed memory kept, the batch and the
layout that a sweep found best. Both train on the same rows in the same order, a fixed number of rows per optimizer step.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from benchmarks.digest import digest
from benchmarks.workers.peer import keep_memory
from benchmarks.workers.stopwatch import Stopwatch

Row = tuple[list[int], list[int]]


def prepare(settings: dict[str, Any]) -> None:
    if settings.get("keep_memory"):
        keep_memory()
    if "fp32_products" in settings:
        torch.set_float32_matmul_precision(settings["fp32_products"])


def model_of(case: dict[str, Any], settings: dict[str, Any]) -> Any:
    dtype = torch.bfloat16 if settings.get("load") == "bfloat16" else torch.float32
    return AutoModelForCausalLM.from_pretrained(case["model"], dtype=dtype)


def common(settings: dict[str, Any], case: dict[str, Any], scratch: str) -> dict[str, Any]:
    """Settings that every trainer gets: the same optimizer step, no files, no reports."""
    device = settings.get("per_device", 8)
    return {
        "output_dir": scratch,
        "max_steps": 10**6,
        "per_device_train_batch_size": min(device, case["batch"]),
        "gradient_accumulation_steps": max(1, case["batch"] // device),
        "learning_rate": case["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
        "train_sampling_strategy": "sequential",
        **({} if settings.get("checkpointing", True) else {"gradient_checkpointing": False}),
    }


def lora_of(case: dict[str, Any], settings: dict[str, Any]) -> LoraConfig | None:
    if settings.get("full"):
        return None
    return LoraConfig(r=case["rank"], lora_alpha=case["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")


@torch.no_grad()
def start_from(model: Any, adapter: str) -> None:
    """Put the case's adapter in the place of PEFT's own random one."""
    if not isinstance(model, PeftModel):
        return
    factors = load_file(adapter)
    parameters = dict(model.named_parameters())
    for name, factor in factors.items():
        layer, _, which = name.rpartition(".")
        parameters[f"base_model.model.{layer}.{which}.default.weight"].copy_(factor)


class Watched(TrainerCallback):
    """Ends training when the watch says so, and keeps what the first step logged."""

    def __init__(self, watch: Stopwatch, curve: int) -> None:
        self.watch, self.curve, self.logs = watch, curve, []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        done = self.watch.lap()
        if (self.curve and state.global_step == self.curve) or (not self.curve and done):
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" in logs:
            self.logs.append({name: float(logs[name]) for name in ("loss", "grad_norm") if name in logs})


def precision(model: Any, args: Any) -> dict[str, str]:
    trained = {str(p.dtype) for p in model.parameters() if p.requires_grad}
    frozen = {str(p.dtype) for p in model.parameters() if not p.requires_grad}
    compute = "bfloat16" if args.bf16 else "/".join(sorted(frozen | trained))
    return {
        "compute": compute.replace("torch.", ""),
        "masters": "/".join(sorted(trained)).replace("torch.", ""),
        "frozen": "/".join(sorted(frozen)).replace("torch.", ""),
    }


def seen_rows(batch: dict[str, Any]) -> list[Row]:
    """The rows of a collated batch: padded ones by their attention mask, flattened ones where positions start again."""
    ids, labels = batch["input_ids"], batch["labels"]
    if "attention_mask" in batch:
        kept = batch["attention_mask"].bool()
        pairs = [(ids[i][kept[i]], labels[i][kept[i]]) for i in range(len(ids))]
    else:
        starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
        ends = [*starts[1:], ids.shape[1]]
        pairs = [(ids[0, start:end], labels[0, start:end]) for start, end in zip(starts, ends, strict=True)]
    return [(tokens.tolist(), (wanted != -100).int().tolist()) for tokens, wanted in pairs]


def ordered(case: dict[str, Any], watch: Stopwatch, curve: int) -> list[dict[str, Any]]:
    """Rows in the order in which the steps take them: as many as the longest run could need."""
    rows, batch = case["rows"], case["batch"]
    batches = len(rows) // batch
    numbers = [step % batches for step in range(curve)] if curve else [watch.batch(step) for step in range(1 + 40 * case["steps"])]
    return [row for number in numbers for row in rows[batch * number : batch * (number + 1)]]


def sft(specification: dict[str, Any]) -> dict[str, Any]:
    from trl import SFTConfig, SFTTrainer

    began = time.perf_counter()
    case, settings = json.loads(Path(specification["case"]).read_text()), specification["settings"]
    prepare(settings)
    watch, curve = Stopwatch(case["steps"], specification["seconds"]), specification.get("curve", 0)
    args = SFTConfig(
        **common(settings, case, specification["scratch"]),
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        padding_free=settings.get("padding_free", False),
    )
    rows = ordered(case, watch, curve)
    labels = [[token if counted else -100 for token, counted in zip(row["tokens"], row["mask"], strict=True)] for row in rows]
    watched = Watched(watch, curve)
    trainer = SFTTrainer(
        model=model_of(case, settings),
        args=args,
        train_dataset=Dataset.from_dict({"input_ids": [row["tokens"] for row in rows], "labels": labels}),
        processing_class=AutoTokenizer.from_pretrained(case["model"]),
        peft_config=lora_of(case, settings),
        callbacks=[watched],
    )
    start_from(trainer.model, case["adapter"])
    seen: list[Row] = []
    collate = trainer.data_collator

    def collated(examples: list[Any]) -> Any:
        batch = collate(examples)
        if len(seen) < case["batch"]:
            seen.extend(seen_rows(batch))
        return batch

    trainer.data_collator = collated
    found = {"load_seconds": time.perf_counter() - began, "precision": precision(trainer.model, args)}
    trainer.train()
    first = watched.logs[0]
    found |= {"digest": digest(seen[: case["batch"]]), **first, "curve": [log["loss"] for log in watched.logs]}
    return {**found, **watch.record(case["units"])}


def dpo(specification: dict[str, Any]) -> dict[str, Any]:
    """DPOTrainer makes its own columns from text; the case's ids are put in their place. The reference's log-probabilities are
    computed within each step (its default): computed before training they would be the same work outside of the watch."""
    from trl import DPOConfig, DPOTrainer

    began = time.perf_counter()
    case, settings = json.loads(Path(specification["case"]).read_text()), specification["settings"]
    prepare(settings)
    watch = Stopwatch(case["steps"], specification["seconds"])
    args = DPOConfig(**common(settings, case, specification["scratch"]), beta=case["beta"], max_length=None)
    watched = Watched(watch, 0)
    text = Dataset.from_dict({"prompt": ["a"] * 2, "chosen": ["b"] * 2, "rejected": ["c"] * 2})
    trainer = DPOTrainer(
        model=model_of(case, settings),
        args=args,
        train_dataset=text,
        processing_class=AutoTokenizer.from_pretrained(case["model"]),
        peft_config=lora_of(case, settings),
        callbacks=[watched],
    )
    trainer.train_dataset = Dataset.from_list([columns(pair) for pair in ordered({**case, "rows": case["pairs"]}, watch, 0)])
    start_from(trainer.model, case["adapter"])
    seen: list[Row] = []
    collate = trainer.data_collator

    def collated(examples: list[Any]) -> Any:
        batch = collate(examples)
        if len(seen) < 2 * case["batch"]:
            rows = [
                (ids[kept.bool()].tolist(), wanted[kept.bool()].int().tolist())
                for ids, kept, wanted in zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True)
            ]
            half = len(rows) // 2  # all chosen, then all rejected
            seen.extend(row for pair in zip(rows[:half], rows[half:], strict=True) for row in pair)
        return batch

    trainer.data_collator = collated
    found = {"load_seconds": time.perf_counter() - began, "precision": precision(trainer.model, args)}
    trainer.train()
    return {**found, "digest": digest(seen[: 2 * case["batch"]]), **watched.logs[0], **watch.record(case["units"])}


def columns(pair: dict[str, Any]) -> dict[str, list[int]]:
    """A pair as DPOTrainer's collator takes it."""
    start = pair["chosen"]["mask"].index(1)
    chosen, rejected = pair["chosen"]["tokens"], pair["rejected"]["tokens"]
    return {"prompt_ids": chosen[:start], "chosen_ids": chosen[start:], "rejected_ids": rejected[start:]}
