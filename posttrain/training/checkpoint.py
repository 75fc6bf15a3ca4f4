"""Checkpoints: `checkpoints/step-000050/` with tensors.safetensors, state.json and a manifest, committed by rename."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from posttrain.records.files import disk, prune, saving, verify


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` whole steps. `state` is the loop's own plain data."""

    step: int
    version: int
    state: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def save(directory: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint and drop those older than the `keep` last. Never writes into an existing one."""
    final = directory / f"step-{checkpoint.step:06d}"
    with saving(final) as folder:
        with disk(final):
            save_file({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}, folder / "tensors.safetensors")
        plain = {"step": checkpoint.step, "version": checkpoint.version, "state": dict(checkpoint.state)}
        (folder / "state.json").write_text(json.dumps(plain))
    prune(directory, keep)
    return final


def latest(directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and what was wrong with newer ones that were passed over."""
    problems: list[str] = []
    for folder in sorted(directory.glob("step-*"), reverse=True):
        found = verify(folder)
        if found:
            problems += found
            continue
        plain = json.loads((folder / "state.json").read_text())
        return Checkpoint(plain["step"], plain["version"], plain["state"], load_file(folder / "tensors.safetensors")), problems
    return None, problems
