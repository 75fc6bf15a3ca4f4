"""A second model beside one in memory: it shares every frozen tensor and has adapters of its own.

A critic next to a policy, or the members of a reward-model ensemble, then cost their adapters and nothing more. The
sibling starts where `model` stands with its adapters off. What is trainable in `model` will move, so it is copied.
"""

from __future__ import annotations

import copy

from torch import nn
from transformers import PreTrainedModel

from posttrain.core.config import LoraConfig
from posttrain.models.lora import adapters, add_lora


def sibling(model: PreTrainedModel, config: LoraConfig | None, *, seed: int) -> PreTrainedModel:
    """A model with fresh adapters on the frozen tensors of `model`; a full trainable copy where `config` is None.

    Give `model` its own adapters first, or freeze it: a model whose weights all train has nothing to share.
    """
    shared = {} if config is None else {id(p): p for p in model.parameters() if not p.requires_grad}
    twin = copy.deepcopy(model, dict(shared))
    for name, layer in adapters(twin).items():
        parent, _, leaf = name.rpartition(".")
        setattr(twin.get_submodule(parent), leaf, layer.base)
    if config is not None:
        add_lora(twin, config, seed=seed)
        return twin
    twin.requires_grad_(True)
    output = twin.get_output_embeddings()
    if isinstance(output, nn.Linear) and output.weight is not twin.get_input_embeddings().weight:
        output.requires_grad_(False)  # a head takes its place, so nothing would ever train it
    return twin
