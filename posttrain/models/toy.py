"""A small Llama-shaped model over bytes, made from nothing: every part of the system runs on it in seconds.

Its vocabulary is the 256 bytes and two ChatML marks, so it reads any text, and its directory loads in transformers
like any other.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SIZES = {  # hidden size, layers, heads, key-value heads, feed-forward size
    "tiny": (32, 2, 2, 1, 64),
    "1m": (128, 4, 4, 2, 384),
    "5m": (256, 6, 8, 4, 704),
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, plus the marks of a turn. Text never becomes a mark unless asked to (see chat/)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False)
    fast.add_special_tokens({"additional_special_tokens": [START]})
    fast.chat_template = CHATML
    return fast


def make_toy(path: Path, *, seed: int = 0, size: str = "1m") -> Path:
    """Write a random toy model to a directory: sizes tiny (25k parameters), 1m and 5m."""
    tokenizer = byte_tokenizer()
    hidden, layers, heads, kv_heads, feed_forward = SIZES[size]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=feed_forward,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
