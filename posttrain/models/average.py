"""Weighted averages of models, weight by weight: model soups (arXiv:2203.05482), as Llama 3 averages the models of each stage
(arXiv:2407.21783, section 4.1.5).

w = Σ aᵢ wᵢ with Σ aᵢ = 1, summed in fp32 and rounded once, one tensor at a time. It works for models fine-tuned from one parent,
which lie in one basin; models that started apart average to noise, and nothing here can tell but an evaluation. What surely cannot
be averaged is refused: other tensors or shapes, another tokenizer or chat template, another architecture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posttrain.core.errors import UserError
from posttrain.models.adapter_files import Adapter, merged, require_fit
from posttrain.models.tensors import Weights, copy_beside, write_weights

FREE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
"""What may differ between the config.json of two models that can be averaged."""
TOKENIZER = ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")

Each = Callable[[str], object]
"""Told the name of each tensor before it is written."""


def average_models(
    sources: Sequence[Path], shares: Sequence[float], folder: Path, *, each: Each = lambda name: None
) -> list[float]:
    """Write Σ shareᵢ modelᵢ to a folder, in the first model's precision and with its tokenizer.

    Returns how far each model was from the average, |wᵢ - w| / |w|. Raises UserError for models that cannot be averaged.
    """
    models = [Weights(source) for source in sources]
    for source, other in zip(sources[1:], models[1:], strict=True):
        require_same(models[0], other, sources[0], source)
    distance, length = [0.0] * len(models), 0.0

    def tensors() -> Iterator[tuple[str, Tensor]]:
        nonlocal length
        for name in models[0]:
            each(name)
            parts = [model[name] for model in models]
            if not parts[0].is_floating_point():
                yield name, alike(name, parts)
                continue
            mean = torch.zeros(parts[0].shape)
            for part, share in zip(parts, shares, strict=True):
                mean.add_(part.float(), alpha=share)
            length += float(mean.square().sum(dtype=torch.float64))
            if not math.isfinite(length):
                raise UserError(f"{name} is not finite in {', '.join(broken(sources, parts))}.", fix="Leave that model out.")
            for number, part in enumerate(parts):
                distance[number] += float((part.float() - mean).square().sum(dtype=torch.float64))
            yield name, mean.to(parts[0].dtype)

    write_weights(folder, tensors())
    copy_beside(sources[0], folder)
    return [math.sqrt(part / length) if length else 0.0 for part in distance]


def merge_adapters(
    base: Path, adapters: Sequence[Adapter], shares: Sequence[float], folder: Path, *, each: Each = lambda name: None
) -> None:
    """Write the base with Σ shareᵢ updateᵢ folded in."""
    weights = Weights(base)
    require_fit(adapters, weights.shapes())

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name in weights:
            each(name)
            changed = any(name in adapter.factors for adapter in adapters)
            yield name, merged(weights[name], name, adapters, shares) if changed else weights[name]

    write_weights(folder, tensors())
    copy_beside(base, folder)


def broken(sources: Sequence[Path], parts: Sequence[Tensor]) -> list[str]:
    """The models whose tensor holds NaN or an infinity; all of them where only their sum does."""
    return [str(source) for source, part in zip(sources, parts, strict=True) if not part.isfinite().all()] or list(
        map(str, sources)
    )


def alike(name: str, parts: Sequence[Tensor]) -> Tensor:
    """Whole numbers (masks, tables) have no average: they must be equal."""
    if any(not torch.equal(parts[0], part) for part in parts[1:]):
        raise UserError(f"{name} holds whole numbers that differ between the models.", fix="Average models of one parent.")
    return parts[0]


def require_same(first: Weights, other: Weights, one: Path, two: Path) -> None:
    """Raises UserError naming the first thing that keeps two models from being averaged."""
    shapes, others = first.shapes(), other.shapes()
    for name in sorted(shapes.keys() | others.keys()):
        if shapes.get(name) != others.get(name):
            raise UserError(
                f"{one} and {two} cannot be averaged: {name} has shape {shapes.get(name, 'none')} in one "
                f"and {others.get(name, 'none')} in the other.",
                fix="Average models of one parent.",
            )
    left, right = plain(one / "config.json"), plain(two / "config.json")
    for name in sorted(left.keys() | right.keys()):
        if name not in FREE and left.get(name) != right.get(name):
            raise UserError(
                f"{one} and {two} cannot be averaged: {name} is {left.get(name)!r} in one and {right.get(name)!r} in the other.",
                fix="Average models of one parent.",
            )
    if what := other_tokenizer(one, two):
        raise UserError(
            f"{one} and {two} cannot be averaged: their {what} differ.", fix="Average models that read and write the same tokens."
        )


def other_tokenizer(one: Path, two: Path) -> str:
    """What differs between two models' tokenizers; empty if nothing does."""
    left, right = plain(one / "tokenizer.json"), plain(two / "tokenizer.json")
    if any(left.get(part) != right.get(part) for part in TOKENIZER):
        return "tokenizers"
    return "" if template(one) == template(two) else "chat templates"


def template(folder: Path) -> Any:
    file = folder / "chat_template.jinja"
    return file.read_text(encoding="utf-8") if file.is_file() else plain(folder / "tokenizer_config.json").get("chat_template")


def plain(file: Path) -> dict[str, Any]:
    value = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return value if isinstance(value, dict) else {}
