"""The fixed sets that all programs of a lane work on: token ids in a file, made once for a model, the same for everyone.

Made from posttrain's own task sets, whose rows depend on a seed and nothing else. A case also holds the adapter that every
program starts from, because two random ones would differ in the gradient's norm. Runs in posttrain's environment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.digest import digest, useful_tokens

RANK, ALPHA = 16, 32
CURVE_STEPS = 100
SFT_SETS = ("dialogue", "derivations", "retrieval", "lookup", "word_problems")


def rows_of(sets: Sequence[str], count: int, model: Path) -> list[dict[str, list[int]]]:
    """Demonstrations of several sets in turn, encoded by the model's own chat template."""
    from transformers import AutoTokenizer

    from posttrain import chat
    from posttrain.data.builtin import demonstrations

    renderer = chat.renderer(AutoTokenizer.from_pretrained(model))
    each = -(-count // len(sets))
    found = [demonstrations(name, count=each, seed=0) for name in sets]
    turns = [example for together in zip(*found, strict=True) for example in together][:count]
    rows = []
    for example in turns:
        tokens, mask = renderer.example(example)
        rows.append({"tokens": list(tokens), "mask": list(mask)})
    return rows


def sft(model: Path, folder: Path, *, batch: int, steps: int) -> dict[str, Any]:
    """A batch to warm up on, `steps` batches that are timed, and more, so that a curve of 100 steps takes each row four times."""
    batches = max(1 + steps, CURVE_STEPS // 4)
    rows = rows_of(SFT_SETS, batch * batches, model)
    timed = [rows[batch * step : batch * (step + 1)] for step in range(1, 1 + steps)]
    useful = [useful_tokens((row["tokens"], row["mask"]) for row in step) for step in timed]
    return {
        "rows": rows,
        "batch": batch,
        "steps": steps,
        "units": sum(useful),
        "tokens": [sum(len(row["tokens"]) for row in step) for step in timed],
        "loss_tokens": [sum(sum(row["mask"]) for row in step) for step in timed],
        "digest": digest((row["tokens"], row["mask"]) for row in rows[:batch]),
        "adapter": str(adapter(model, folder)),
        "rank": RANK,
        "alpha": ALPHA,
        "learning_rate": 1e-4,
    }


def adapter(model: Path, folder: Path) -> Path:
    """LoRA factors by layer name (`….q_proj.lora_A`), small and random, so that a first step's gradients need both."""
    import torch
    from safetensors.torch import save_file

    from posttrain.core.config import LoraConfig
    from posttrain.models.load import load
    from posttrain.models.lora import adapters, add_lora

    place = folder / "adapter.safetensors"
    if not place.exists():
        loaded = load(str(model), dtype=torch.float32)
        add_lora(loaded.model, LoraConfig(rank=RANK, alpha=ALPHA), seed=0)
        generator = torch.Generator().manual_seed(0)
        factors = {}
        for name, layer in adapters(loaded.model).items():
            factors[f"{name}.lora_A"] = layer.lora_A.detach().clone()
            factors[f"{name}.lora_B"] = torch.randn(layer.lora_B.shape, generator=generator) * 1e-3
        save_file({name: factor.to(torch.bfloat16).float() for name, factor in factors.items()}, place)
    return place


CASES: dict[str, Callable[..., dict[str, Any]]] = {"sft": sft}
"""How each case is made, by its name."""


def case_file(name: str, model: Path, folder: Path, **sizes: Any) -> Path:
    """The case's file, made now if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    label = "-".join([name, *(f"{key}{value}" for key, value in sorted(sizes.items()))])
    place = folder / f"{label}.json"
    if not place.exists():
        made = CASES[name](model, folder, **sizes)
        partial = place.with_suffix(".partial")
        partial.write_text(json.dumps({"name": name, "model": str(model), **made}))
        partial.rename(place)
    return place
