"""What work takes at least: floating-point operations and bytes, counted from a model's shape.

An operation is an addition or a multiplication. Counted are the products of the layers, of the head and of attention; norms,
gates, sampling, adapters and the optimizer are left out, and work done twice (padding, activations computed again) counts
once: so MFU, model FLOP utilisation (arXiv:2204.02311, appendix B), is never flattered. Attention is counted as causal, half of
all pairs.
Letters: H query heads, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.workers.roofline import layers, training_products

Config = Mapping[str, Any]

BF16 = 2
"""Bytes of a number."""


def head_size(config: Config) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def layer_weights(config: Config) -> int:
    """Weights of all layers' products: q, k, v, o, gate, up, down."""
    return sum(inputs * outputs for _, inputs, outputs in layers(dict(config), 1))


def head_weights(config: Config) -> int:
    """The output layer's; a table of embeddings is read by row and is no product."""
    return int(config["hidden_size"] * config["vocab_size"])


def attention_operations(config: Config, lengths: Sequence[int]) -> int:
    """Forwards, for rows of these lengths: scores and sums over values, 2·H·D operations each for each pair of tokens."""
    pairs = sum(length * (length + 1) // 2 for length in lengths)
    return int(4 * config["num_hidden_layers"] * config["num_attention_heads"] * head_size(config) * pairs)


def training_operations(config: Config, lengths: Sequence[int], scored: int, *, full: bool) -> int:
    """Of a forward and a backward over rows of these lengths, `scored` tokens of them with a loss. The backward makes the gradients
    of inputs, as costly as the forward, and with `full` those of the weights, as costly again; attention has both always."""
    products = training_products(dict(config), sum(lengths), scored, full)
    return 2 * sum(math.prod(shape) for shape in products) + 3 * attention_operations(config, lengths)


def utilisation(operations: float, seconds: float, peak: float) -> float:
    """MFU: the share of `peak`, operations a second."""
    return operations / seconds / peak


def token_bytes(config: Config) -> int:
    """Keys and values of one token in all layers."""
    return int(2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head_size(config) * BF16)


def decode_bytes(config: Config, prompts: Sequence[int], rows: int, steps: int) -> int:
    """Read by `steps` steps of `rows` rows: all weights at each, each prompt's keys and values once for all its rows, and at step
    1, 2, ... each row's own 1, 2, ... tokens."""
    weights = BF16 * (layer_weights(config) + head_weights(config))
    return steps * weights + token_bytes(config) * (steps * sum(prompts) + rows * steps * (steps + 1) // 2)
