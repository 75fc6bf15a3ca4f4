"""What this machine can do at most, now: matrix products in the step's own shapes, and reading and writing memory.

A bound is the time of the products that the work cannot do without, at the best rate found for each shape, or the time to read
what has to be read, whichever is longer. Attention, norms, sampling, the adapters' own thin products and the optimizer are left
out, so the share of the bound that a program reaches is never flattered.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from posttrain.models.fused.packed_weight import PackedWeight

Shape = tuple[int, int, int]
"""Rows, inputs, outputs."""


def layers(config: dict[str, Any], rows: int) -> list[Shape]:
    """The linear layers of the body that take `rows` tokens, those with the same input side by side."""
    width, middle = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    own, shared = heads * head, 2 * (config.get("num_key_value_heads") or heads) * head
    return [(rows, width, own + shared), (rows, own, width), (rows, width, 2 * middle), (rows, middle, width)] * config[
        "num_hidden_layers"
    ]


def training_products(config: dict[str, Any], rows: int, scored: int, full: bool) -> Iterator[Shape]:
    """Products of one training step: the layers forwards, their inputs' gradients, and with `full` their weights'."""
    for tokens, inputs, outputs in [*layers(config, rows), (scored, config["hidden_size"], config["vocab_size"])]:
        yield tokens, inputs, outputs
        yield tokens, outputs, inputs
        if full:
            yield outputs, tokens, inputs


def seconds_of(make: Callable[[], object], least: float = 0.05) -> float:
    """The median time of one call, after one to warm up."""
    make()
    times: list[float] = []
    while sum(times) < least or len(times) < 5:
        began = time.perf_counter()
        make()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@torch.no_grad()
def product_seconds(shape: Shape) -> float:
    """The faster of the plain product and the one whose weight is laid out for it beforehand."""
    rows, inputs, outputs = shape
    x = torch.randn(rows, inputs).to(torch.bfloat16)
    weight = torch.randn(outputs, inputs).to(torch.bfloat16)
    out = torch.empty(rows, outputs, dtype=torch.bfloat16)
    best = seconds_of(lambda: torch.mm(x, weight.T, out=out))
    laid_out = PackedWeight([weight])
    return min(best, seconds_of(lambda: laid_out.linear(x)))


@torch.no_grad()
def bandwidth(gigabytes: float = 0.5) -> float:
    """Bytes a second of a = b + c over arrays that no cache of one core holds: two reads and a write."""
    a, b, c = (torch.zeros(int(gigabytes * 2**30 / 4)) for _ in range(3))
    return 3 * a.numel() * 4 / seconds_of(lambda: torch.add(b, c, out=a), least=0.5)


def timed(shapes: list[Shape]) -> tuple[float, list[dict[str, Any]]]:
    """The seconds that all of them take, and each kind's rate."""
    found = []
    for shape in dict.fromkeys(shapes):
        rows, inputs, outputs = shape
        seconds = product_seconds(shape)
        found.append(
            {"shape": shape, "times": shapes.count(shape), "seconds": seconds, "gflops": 2e-9 * rows * inputs * outputs / seconds}
        )
    return sum(each["times"] * each["seconds"] for each in found), found


def sft(case: dict[str, Any], config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds of one pass over the case's timed steps, all of a step's tokens in one batch of rows."""
    tokens, scored = (round(statistics.fmean(case[name])) for name in ("tokens", "loss_tokens"))
    seconds, products = timed(list(training_products(config, tokens, scored, bool(settings.get("full")))))
    return {"seconds": seconds * case["steps"], "work": case["units"], "products": products}


def generation(case: dict[str, Any], config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Every prompt read once, then all rows decoded together, full all the time: a step is its products or the weights and the keys
    and values that it reads (prompts once for all their samples), whichever takes longer."""
    rows, prompt_tokens = sum(map(len, case["lengths"])), sum(map(len, case["prompts"]))
    width, vocabulary = config["hidden_size"], config["vocab_size"]
    prefill, products = timed([*layers(config, prompt_tokens), (len(case["prompts"]), width, vocabulary)])
    steps = (case["units"] - rows) / rows
    if not steps:
        return {"seconds": prefill, "work": case["units"], "products": products}
    decode, more = timed([*layers(config, rows), (rows, width, vocabulary)])
    weights = 2 * (sum(inputs * outputs for _, inputs, outputs in layers(config, 1)) + width * vocabulary)
    head = config.get("head_dim") or width // config["num_attention_heads"]
    token = 4 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or config["num_attention_heads"]) * head
    held = prompt_tokens + case["units"] / 2  # half of what is written in the end has been, on the mean
    reading = (weights + token * held) / bandwidth()
    return {
        "seconds": prefill + steps * max(decode, reading),
        "work": case["units"],
        "products": products + more,
        "reading": reading,
        "step": decode,
    }


Bound = Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], dict[str, Any]]
BOUNDS: dict[str, Bound] = {
    "sft": sft,
    "generation": generation,
}


def rates(specification: dict[str, Any]) -> dict[str, Any]:
    case = json.loads(Path(specification["case"]).read_text())
    config = json.loads((Path(case["model"]) / "config.json").read_text())
    found = BOUNDS[specification["bound"]](case, config, specification["settings"])
    return {**found, "bandwidth": bandwidth()}
