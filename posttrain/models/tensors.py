"""Weights on disk, one tensor at a time: what averages, merges and casts a model needs, in the memory of one file.

Reads a directory of safetensors, sharded or not, through the system's page cache; writes files of at most SHARD bytes, so that
no more than one of them is held. Nothing of a model is built, so any architecture will do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from posttrain.core.errors import UserError

SHARD = 2_000_000_000
INDEX = "model.safetensors.index.json"
CARRIED = (".json", ".jinja", ".model", ".txt")
LEFT = ("MANIFEST.json", "adapter_config.json", "README.md", INDEX)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Weights:
    """The tensors of a model directory by name. Files stay open while this lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Any] = {}
        whole = folder / "model.safetensors"  # other files beside it are adapters, or the same weights in another layout
        files = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
        if (folder / INDEX).is_file():
            named = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
            files = sorted({folder / name for name in named})
        if not files:
            raise UserError(f"{folder} has no .safetensors file.", fix="Save the model with safetensors.")
        for file in files:
            try:
                handle = safe_open(file, framework="pt")
            except (SafetensorError, OSError) as error:
                raise UserError(f"{file} cannot be read ({error}).", fix="Save the model again.") from error
            names: list[str] = list(handle.keys())  # type: ignore[no-untyped-call]
            self._files |= dict.fromkeys(names, handle)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files))

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Read from the files' heads, without the tensors."""
        return {name: tuple(self._files[name].get_slice(name).get_shape()) for name in self}


def write_weights(folder: Path, tensors: Iterable[tuple[str, Tensor]], *, shard: int = SHARD) -> int:
    """Write tensors as they come, in files that transformers finds: one, or several with an index. Returns the bytes written."""
    held: dict[str, Tensor] = {}
    places: dict[str, int] = {}
    files, size, total = 0, 0, 0
    for name, tensor in tensors:
        if held and size + tensor.nbytes > shard:
            files, held, size = _put(folder, files, held), {}, 0
        held[name] = tensor.contiguous()
        places[name] = files
        size, total = size + tensor.nbytes, total + tensor.nbytes
    files = _put(folder, files, held)
    names = ["model.safetensors"] if files == 1 else [f"model-{n + 1:05d}-of-{files:05d}.safetensors" for n in range(files)]
    for number, name in enumerate(names):
        _part(folder, number).rename(folder / name)
    if files > 1:
        index = {"metadata": {"total_size": total}, "weight_map": {name: names[number] for name, number in places.items()}}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return total


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.safetensors"


def _put(folder: Path, number: int, held: dict[str, Tensor]) -> int:
    save_file(held, _part(folder, number), metadata={"format": "pt"})
    _part(folder, number).chmod(0o644)  # safetensors makes files that only their owner can read, and a model is for others too
    return number + 1


def copy_beside(source: Path, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Config, tokenizer and template of a model directory, but no weights and no code; with another dtype, config.json says so."""
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in CARRIED and file.name not in LEFT and not file.name.startswith("."):
            shutil.copyfile(file, folder / file.name)
    if dtype is not None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config.pop("torch_dtype", None)
        config["dtype"] = str(dtype).removeprefix("torch.")
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
