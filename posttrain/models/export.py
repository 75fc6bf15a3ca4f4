"""A model for others to load: adapters folded in, cast, in safetensors, with its tokenizer. One tensor at a time.

bf16 keeps fp32's range and loses digits; fp16 keeps digits and loses range, so a value beyond it is refused, not made infinite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from posttrain.core.errors import UserError
from posttrain.models.adapter_files import CONFIG, PREFIX, WEIGHTS, Adapter, merged, require_fit
from posttrain.models.tensors import DTYPES, Weights, copy_beside, write_weights


def export_model(source: Path, folder: Path, *, dtype: str | None = None, adapter: Adapter | None = None) -> int:
    """Write a model directory that transformers loads as it is; returns the bytes of its weights. `dtype` none keeps precision.

    With an adapter, its update is added in fp32 and the sum rounded once, to the precision written.
    """
    weights, wanted = Weights(source), DTYPES[dtype] if dtype else None
    if adapter is not None:
        require_fit([adapter], weights.shapes())

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name in weights:
            weight = weights[name]
            if adapter is not None and name in adapter.factors:
                whole = merged(weight.float(), name, [adapter], [1.0])
                yield name, cast(whole, wanted or weight.dtype, name)
            else:
                yield name, cast(weight, wanted, name)

    written = write_weights(folder, tensors())
    copy_beside(source, folder, dtype=wanted)
    return written


def export_adapter(adapter: Adapter, source: Path, folder: Path, *, base: str, dtype: str | None = None) -> int:
    """Write the adapter alone, as PEFT loads it, with the tokenizer of its model; returns the bytes of its weights."""
    wanted = DTYPES[dtype] if dtype else None
    tensors = {}
    for name, (down, up) in adapter.factors.items():
        key = PREFIX + name.removesuffix(".weight")
        tensors[f"{key}.lora_A.weight"] = cast(down, wanted, name).contiguous()
        tensors[f"{key}.lora_B.weight"] = cast(up, wanted, name).contiguous()
    copy_beside(source, folder)
    for name in ("config.json", "generation_config.json"):
        (folder / name).unlink(missing_ok=True)  # they are the base's, and would make this folder look like a whole model
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    config = {**adapter.config, "base_model_name_or_path": base}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return sum(tensor.nbytes for tensor in tensors.values())


def cast(tensor: Tensor, dtype: torch.dtype | None, name: str) -> Tensor:
    """Numbers in the precision asked for; whole numbers stay as they are."""
    if dtype is None or not tensor.is_floating_point():
        return tensor
    if dtype == torch.float16 and (largest := float(tensor.abs().max())) > torch.finfo(dtype).max and math.isfinite(largest):
        raise UserError(f"{name} holds {largest:.4g}, beyond what fp16 can hold (65504).", fix="Export in bf16 or fp32.")
    return tensor.to(dtype)
