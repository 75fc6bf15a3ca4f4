"""The models: shapes of Qwen2.5 (arXiv:2412.15115, table 1, and the configs of its release) and SmolLM2-135M, and a toy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen2Config

from posttrain.models import attention
from posttrain.models.load import Loaded, quiet

QWEN = {"vocab_size": 151_936, "num_key_value_heads": 2, "max_position_embeddings": 32_768, "tie_word_embeddings": True}
SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1_536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8_192,
        "tie_word_embeddings": True,
    },
    "qwen2.5-0.5b": {
        **QWEN,
        "hidden_size": 896,
        "intermediate_size": 4_864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
    },
    "qwen2.5-1.5b": {
        **QWEN,
        "hidden_size": 1_536,
        "intermediate_size": 8_960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
    },
    "qwen2.5-7b": {
        **QWEN,
        "vocab_size": 152_064,
        "hidden_size": 3_584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "toy": {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    },
}


def model_of(name: str, device: torch.device, *, plain: bool = False) -> PreTrainedModel:
    """A model with random weights, made where it is used; `plain` leaves it transformers' own attention. bf16 on a GPU."""
    config = (LlamaConfig if name.startswith("smollm2") else Qwen2Config)(**SHAPES[name], bos_token_id=None, eos_token_id=None)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    torch.manual_seed(0)
    with quiet(), torch.device(device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa" if plain else attention.NAME, trust_remote_code=False
        )
    model.config.use_cache = plain
    made: PreTrainedModel = model.eval()
    return made


def loaded(name: str, device: torch.device) -> Loaded:
    """As the stages get a model; there is no text here, so no tokenizer."""
    return Loaded(model_of(name, device), None, Path(name))  # type: ignore[arg-type]
