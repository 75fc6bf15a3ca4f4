"""LoRA adapters on disk, in PEFT's layout: their updates of each weight, and several of them as one.

An adapter adds s B A to a weight, with s = alpha / rank (alpha / √rank for rank-stabilised ones). Adapters of one base add up:
W + Σ wᵢ sᵢ Bᵢ Aᵢ, which is also one adapter of the ranks together, A stacked and wᵢ sᵢ Bᵢ side by side: exact, not an average of
the factors (that would leave cross terms BᵢAⱼ, as PEFT's `linear` does). What adds anything else (DoRA, biases, saved modules,
other ranks in some layers) is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from posttrain.core.errors import UserError

PREFIX = "base_model.model."
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
REFUSED = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias")


@dataclass(frozen=True)
class Adapter:
    """One adapter: `factors` maps a weight's name in the base (`….q_proj.weight`) to A (rank, in) and B (out, rank)."""

    folder: Path
    config: Mapping[str, Any]
    scaling: float
    factors: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def rank(self) -> int:
        return int(self.config["r"])

    @property
    def base(self) -> str:
        """What it was trained on, as it says: a name, or a path that may be relative to its own folder."""
        return str(self.config.get("base_model_name_or_path") or "")


def read_adapter(folder: Path) -> Adapter:
    """Raises UserError for what is no plain LoRA."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no adapter that can be read ({error}).", fix=f"It needs {CONFIG} and {WEIGHTS}.") from error
    wrong = [f"{name}: {config[name]}" for name in REFUSED if config.get(name)]
    wrong += [f"bias: {config['bias']}"] if config.get("bias", "none") != "none" else []
    if config.get("peft_type") != "LORA" or wrong:
        what = ", ".join(wrong) or f"the type {config.get('peft_type')!r}"
        raise UserError(f"the adapter {folder} has {what}; only plain LoRA can be merged.", fix="Merge it with PEFT.")
    scaling = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    names = sorted(key.removeprefix(PREFIX).removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight"))
    if 2 * len(names) != len(tensors):
        raise UserError(f"the adapter {folder} holds other tensors than pairs of lora_A and lora_B.", fix="Merge it with PEFT.")
    factors = {f"{n}.weight": (tensors[f"{PREFIX}{n}.lora_A.weight"], tensors[f"{PREFIX}{n}.lora_B.weight"]) for n in names}
    return Adapter(folder, config, scaling, factors)


def merged(weight: Tensor, name: str, adapters: Sequence[Adapter], shares: Sequence[float]) -> Tensor:
    """A weight with every adapter's update of it: fp32 sum, rounded once to the weight's own precision."""
    total = weight.float()
    for adapter, share in zip(adapters, shares, strict=True):
        if name in adapter.factors:
            down, up = adapter.factors[name]
            total = total + (share * adapter.scaling) * (up.float() @ down.float())
    return total.to(weight.dtype)


def require_fit(adapters: Sequence[Adapter], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Every update has a weight of its shape in the base. Raises UserError naming the first that has not."""
    for adapter in adapters:
        for name, (down, up) in adapter.factors.items():
            wanted = (up.shape[0], down.shape[1])
            if shapes.get(name) != wanted:
                there = f"has shape {shapes[name]}" if name in shapes else "is not in the base"
                raise UserError(
                    f"the adapter {adapter.folder} changes {name} of shape {wanted}, which {there}.",
                    fix="Name the base it was trained on.",
                )


def require_base(adapters: Sequence[Adapter], base: Path) -> None:
    """Adapters that say where their base lies must mean this one; a base that is no longer there cannot be compared."""
    for adapter in adapters:
        said = Path(adapter.base)
        there = said if said.is_absolute() else adapter.folder / said
        if adapter.base and there.is_dir() and there.resolve() != base.resolve():
            raise UserError(
                f"the adapter {adapter.folder} was trained on {there.resolve()}, not on {base}.", fix="Name that model as its base."
            )


def stacked(adapters: Sequence[Adapter], shares: Sequence[float], folder: Path, *, base: str) -> None:
    """Write the weighted sum of adapters as one adapter of all their ranks, with a scaling of 1."""
    first = adapters[0]
    for other in adapters[1:]:
        if other.factors.keys() != first.factors.keys():
            apart = min(other.factors.keys() ^ first.factors.keys())
            raise UserError(
                f"{first.folder} and {other.folder} adapt different layers: only one changes {apart}.",
                fix="Merge adapters of the same layers.",
            )
    tensors: dict[str, Tensor] = {}
    for name in first.factors:
        key = PREFIX + name.removesuffix(".weight")
        tensors[f"{key}.lora_A.weight"] = torch.cat([adapter.factors[name][0].float() for adapter in adapters])
        ups = [share * a.scaling * a.factors[name][1].float() for a, share in zip(adapters, shares, strict=True)]
        tensors[f"{key}.lora_B.weight"] = torch.cat(ups, dim=1)
    rank = sum(adapter.rank for adapter in adapters)
    config = {**first.config, "r": rank, "lora_alpha": float(rank), "use_rslora": False, "base_model_name_or_path": base}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
