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
ROOT = Path(__file__).resolve().parent.parent
LENGTHS = ROOT / "benchmarks" / "data" / "lengths.json"
SYSTEM = "You are a careful assistant. Think aloud, step by step, and then give the answer as one number."
PROMPT_SETS = ("word_problems", "derivations", "lookup", "arithmetic")
PAIR_SETS = ("word_problems", "derivations", "lookup", "retrieval")
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


def adapter(model: Path, folder: Path, *, zero: bool = False) -> Path:
    """LoRA factors by layer name (`….q_proj.lora_A`), small and random, so that a first step's gradients need both.

    With `zero` B is 0, as a fresh adapter has it, and policy and reference say the same of every answer. DPO starts there: its
    loss is a difference between the two of sums over whole answers, in which bf16's rounding of two unlike computations comes
    to half a nat a pair, in ours as in TRL's.
    """
    import torch
    from safetensors.torch import save_file

    from posttrain.core.config import LoraConfig
    from posttrain.models.load import load
    from posttrain.models.lora import adapters, add_lora

    place = folder / ("adapter-zero.safetensors" if zero else "adapter.safetensors")
    if not place.exists():
        loaded = load(str(model), dtype=torch.float32)
        add_lora(loaded.model, LoraConfig(rank=RANK, alpha=ALPHA), seed=0)
        generator = torch.Generator().manual_seed(0)
        factors = {}
        for name, layer in adapters(loaded.model).items():
            factors[f"{name}.lora_A"] = layer.lora_A.detach().clone()
            factors[f"{name}.lora_B"] = torch.randn(layer.lora_B.shape, generator=generator) * (0 if zero else 1e-3)
        save_file({name: factor.to(torch.bfloat16).float() for name, factor in factors.items()}, place)
    return place


def pairs_of(count: int, model: Path) -> list[dict[str, dict[str, list[int]]]]:
    """Preferences over one prompt each: the right answer, and the right answer to the next problem of the same set."""
    from dataclasses import replace

    from transformers import AutoTokenizer

    from posttrain import chat
    from posttrain.data.builtin import demonstrations

    renderer = chat.renderer(AutoTokenizer.from_pretrained(model))

    def encoded(example: Any) -> dict[str, list[int]]:
        tokens, mask = renderer.example(example)
        end = max(place for place, counted in enumerate(mask) if counted) + 1  # what follows the answer is never scored
        return {"tokens": list(tokens[:end]), "mask": list(mask[:end])}

    each = max(2, -(-count // len(PAIR_SETS)))  # one alone would be its own wrong answer
    found = []
    for name in PAIR_SETS:
        right = demonstrations(name, count=each, seed=1)
        wrong = [
            replace(own, messages=(*own.messages[:-1], other.messages[-1]))
            for own, other in zip(right, [*right[1:], right[0]], strict=True)
        ]
        found.append([{"chosen": encoded(a), "rejected": encoded(b)} for a, b in zip(right, wrong, strict=True)])
    return [pair for together in zip(*found, strict=True) for pair in together][:count]


def dpo(model: Path, folder: Path, *, batch: int, steps: int) -> dict[str, Any]:
    """A batch of pairs to warm up on and `steps` batches that are timed."""
    pairs = pairs_of(batch * (1 + steps), model)
    timed = [pairs[batch * step : batch * (step + 1)] for step in range(1, 1 + steps)]
    answers = [[(pair[side]["tokens"], pair[side]["mask"]) for pair in step for side in ("chosen", "rejected")] for step in timed]
    return {
        "pairs": pairs,
        "batch": batch,
        "steps": steps,
        "units": batch * steps,
        "tokens": [useful_tokens(rows) for rows in answers],
        "loss_tokens": [sum(sum(mask) for _, mask in rows) for rows in answers],
        "digest": digest((pair[side]["tokens"], pair[side]["mask"]) for pair in pairs[:batch] for side in ("chosen", "rejected")),
        "adapter": str(adapter(model, folder, zero=True)),
        "rank": RANK,
        "alpha": ALPHA,
        "beta": 0.1,
        "learning_rate": 5e-5,
    }


def questions(count: int) -> list[list[dict[str, str]]]:
    """Prompts as messages, a few kinds in turn, with one system message."""
    from posttrain.data.builtin import tasks

    each = -(-count // len(PROMPT_SETS))
    found = [tasks(name, count=each, seed=2) for name in PROMPT_SETS]
    together = [task for turn in zip(*found, strict=True) for task in turn][:count]
    users = [[message for message in task.messages if message.role == "user"][-1] for task in together]
    return [[{"role": "system", "content": SYSTEM}, {"role": "user", "content": user.content}] for user in users]


def prompt_ids(messages: list[list[dict[str, str]]], model: Path) -> list[list[int]]:
    from transformers import AutoTokenizer

    from posttrain import chat
    from posttrain.core.types import Message

    renderer = chat.renderer(AutoTokenizer.from_pretrained(model))
    return [list(renderer.prompt([Message(turn["role"], turn["content"]) for turn in turns])) for turns in messages]  # type: ignore[arg-type]


def generation(model: Path, folder: Path, *, prompts: int, samples: int, new: int = 0) -> dict[str, Any]:
    """`samples` rows a prompt; each writes `new` tokens, or as many as a recorded answer had."""
    ids = prompt_ids(questions(prompts), model)
    recorded = json.loads(LENGTHS.read_text())["lengths"] if not new else []
    lengths = [
        [new] * samples if new else [recorded[(p * samples + s) % len(recorded)] for s in range(samples)] for p in range(prompts)
    ]
    digested = digest((prompt, [0] * len(prompt)) for prompt in ids)
    return {"prompts": ids, "lengths": lengths, "units": sum(map(sum, lengths)), "digest": digested}


def rounds(model: Path, folder: Path, *, prompts: int, samples: int, new: int) -> dict[str, Any]:
    """A round of reinforcement learning: prompts as messages, which TRL encodes itself, and what they must come to."""
    messages = questions(prompts)
    ids = prompt_ids(messages, model)
    return {
        "messages": messages,
        "prompt_tokens": sum(map(len, ids)),
        "samples": samples,
        "new": new,
        "units": 1,
        "digest": digest((prompt, [0] * len(prompt)) for prompt in ids),
        "adapter": str(adapter(model, folder)),
        "rank": RANK,
        "alpha": ALPHA,
        "beta": 0.02,
        "learning_rate": 1e-5,
    }


def start(model: Path, folder: Path) -> dict[str, Any]:
    """A toy model, rows to train it on, and a recipe: what the command lines are given. A recipe must begin by evaluating its
    model: here on one task and one token."""
    from posttrain.models.load import resolve

    toy, place = resolve("toy"), folder / "start"
    place.mkdir(exist_ok=True)
    turns = [({"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": f"{n}"}) for n in range(64)]
    (place / "train.jsonl").write_text("".join(json.dumps({"messages": pair}) + "\n" for pair in turns))
    recipe = {
        "name": "start",
        "source": "made for a benchmark",
        "tradeoff": "none",
        "model": str(toy),
        "stages": [
            {
                "id": "before",
                "kind": "evaluate",
                "model": "base",
                "suites": {"one": {"source": "builtin:arithmetic", "split": "test", "count": 1}},
                "graders": ["math"],
                "sampling": {"max_tokens": 1},
            },
            {"id": "train", "kind": "sft", "model": "base", "data": [{"source": "./train.jsonl"}], "steps": 20, "batch_size": 8},
        ],
    }
    (place / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    programs = ROOT / ".venv/bin/posttrain", ROOT / ".venv-trl/bin/trl"
    places = {"model": str(toy), "data": str(place), "recipe": str(place / "recipe.yaml")}
    return {"places": {**places, "posttrain": str(programs[0]), "trl": str(programs[1])}, "units": 1, "digest": ""}


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    "sft": sft,
    "dpo": dpo,
    "generation": generation,
    "rounds": rounds,
    "start": start,
}
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
