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
    return {"digest": seen, "loss": loss, "grad_norm": norm_of(trained), "precision": {"compute": "float32", "masters": "float32"}}
