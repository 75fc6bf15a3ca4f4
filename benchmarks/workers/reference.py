"""The first step's loss and gradient norm, computed plainly: fp32, one row at a time, no padding, stock attention and softmax.

Shares nothing with either side but torch and transformers' model. Adapters are hooks that add s B A x to a layer's output.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.digest import digest

FP32 = {"compute": "float32", "masters": "float32"}


def plain_model(case: dict[str, Any], full: bool) -> tuple[nn.Module, list[Tensor]]:
    """The model in fp32 and the tensors that are trained."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(case["model"], dtype=torch.float32, attn_implementation="eager").eval()
    if full:
        return model, list(model.requires_grad_(True).parameters())
    model.requires_grad_(False)
    factors = {name: factor.float().requires_grad_() for name, factor in load_file(case["adapter"]).items()}
    scaling = case["alpha"] / case["rank"]
    for name in {name.rpartition(".")[0] for name in factors}:
        model.get_submodule(name).register_forward_hook(adapted(factors[f"{name}.lora_A"], factors[f"{name}.lora_B"], scaling))
    return model, list(factors.values())


def adapted(a: Tensor, b: Tensor, scaling: float) -> Any:
    def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + scaling * F.linear(F.linear(inputs[0], a), b)

    return add


def logprobs(model: nn.Module, tokens: list[int], mask: list[int]) -> Tensor:
    """Log-probability of each token that carries a loss."""
    logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].log_softmax(-1)
    places = [place for place, counted in enumerate(mask) if counted]
    return logits[[place - 1 for place in places], [tokens[place] for place in places]]


def norm_of(trained: list[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.grad.double().square().sum()) for tensor in trained if tensor.grad is not None))


def sft(specification: dict[str, Any]) -> dict[str, Any]:
    case = json.loads(Path(specification["case"]).read_text())
    model, trained = plain_model(case, bool(specification["settings"].get("full")))
    rows = case["rows"][: case["batch"]]
    count, loss = sum(sum(row["mask"]) for row in rows), 0.0
    for row in rows:
        term = -logprobs(model, row["tokens"], row["mask"]).sum() / count
        term.backward()
        loss += term.item()
    seen = digest((row["tokens"], row["mask"]) for row in rows)
    return {"digest": seen, "loss": loss, "grad_norm": norm_of(trained), "precision": FP32}


def dpo(specification: dict[str, Any]) -> dict[str, Any]:
    """DPO (arXiv:2305.18290, equation 7) of the first batch; the reference is the model with its adapter's hooks removed."""
    case = json.loads(Path(specification["case"]).read_text())
    pairs = case["pairs"][: case["batch"]]
    plain, _ = plain_model(case, full=True)
    sides = ("chosen", "rejected")
    with torch.no_grad():
        before = [[logprobs(plain, pair[side]["tokens"], pair[side]["mask"]).sum() for side in sides] for pair in pairs]
    model, trained = plain_model(case, full=False)
    loss = 0.0
    for pair, reference in zip(pairs, before, strict=True):
        chosen, rejected = (
            logprobs(model, pair[side]["tokens"], pair[side]["mask"]).sum() - known
            for side, known in zip(sides, reference, strict=True)
        )
        term = -F.logsigmoid(case["beta"] * (chosen - rejected)) / len(pairs)
        term.backward()
        loss += term.item()
    seen = digest((pair[side]["tokens"], pair[side]["mask"]) for pair in pairs for side in sides)
    return {"digest": seen, "loss": loss, "grad_norm": norm_of(trained), "precision": FP32}


@torch.no_grad()
def generate(specification: dict[str, Any]) -> dict[str, Any]:
    """The likeliest first token after each prompt, and how far the next one is behind (nats)."""
    case = json.loads(Path(specification["case"]).read_text())
    model, _ = plain_model(case, full=True)
    ends = [model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1].log_softmax(-1) for prompt in case["prompts"]]
    best = [end.topk(2) for end in ends]
    leads = [float(top.values[0] - top.values[1]) for top in best]
    return {"digest": case["digest"], "first_tokens": [int(top.indices[0]) for top in best], "leads": leads, "precision": FP32}


def rounds(specification: dict[str, Any]) -> dict[str, Any]:
    """The gradient norm of a first round's update on the rollouts that a program itself wrote: every token's advantage times its
    log-probability, a mean over all tokens (DAPO, arXiv:2503.14476), and the KL term k3 against the model without adapter."""
    case = json.loads(Path(specification["case"]).read_text())
    rollouts = json.loads(Path(specification["rollouts"]).read_text())["rollouts"]
    plain, _ = plain_model(case, full=True)
    model, trained = plain_model(case, full=False)
    count = sum(sum(row["mask"]) for row in rollouts)
    for row in rollouts:
        with torch.no_grad():
            reference = logprobs(plain, row["tokens"], row["mask"])
        own = logprobs(model, row["tokens"], row["mask"])
        apart = reference - own
        k3 = apart.exp() - apart - 1
        term = (case["beta"] * k3 - row["advantage"] * (own - own.detach()).exp()).sum() / count
        term.backward()
    return {"digest": case["digest"], "grad_norm": norm_of(trained), "precision": FP32}
