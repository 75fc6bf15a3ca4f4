"""Write a model where transformers and vLLM load it as it is: adapters folded in, tokenizer beside it."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from posttrain.models.load import quiet
from posttrain.models.lora import merged_state


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save to a directory. The model in memory keeps its adapters."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = None  # the reader's own choice, not ours
    config.use_cache = True
    with quiet(), torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    plain.generation_config = copy.deepcopy(model.generation_config)
    plain.load_state_dict(merged_state(model), assign=True)
    plain.tie_weights()
    with quiet():
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes files that only their owner can read, and a model is for others too
