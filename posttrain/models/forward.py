"""Log-probabilities and entropies of the trained tokens of a packed batch: the body on every token, the head on those alone.

The head never makes a full-precision copy of all its logits: matrix products in the model's precision, softmax in fp32
over a tile of rows at a time, gradient formed from the probabilities, kept in the model's precision over the logits.
Letters: L trained tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from posttrain.models.cuda import flex
from posttrain.models.fused import fused_body, parts_of
from posttrain.models.packed_attention import Packed
from posttrain.models.packing import Batch
from posttrain.models.shapes import rounded_tokens, up

TILE = 32
CHUNK = 512
"""Rows of kept probabilities in one buffer. Buffers of one size are taken again as they are, where sizes that follow the batch
would leave holes in memory that grow from step to step."""


@dataclass(frozen=True)
class Scored:
    """logprobs_L carries the gradient; entropy_L (nats, of the scaled softmax) does not."""

    logprobs_L: Tensor
    entropy_L: Tensor


class HeadLogProbs(torch.autograd.Function):
    """hidden (L, E), weight (V, E), target (L) -> log-probability and entropy of softmax(hidden · weightᵀ / temperature).

    `keep` says whether a backward will come; it can come once, because it writes the gradient over what was kept.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, temperature: float, keep: bool) -> tuple[Tensor, Tensor]:
        count = len(hidden)
        logprobs, entropy = (torch.empty(count, dtype=torch.float32, device=hidden.device) for _ in range(2))
        kept: list[Tensor] = []
        tile = TILE if hidden.device.type == "cpu" else CHUNK  # what a core's cache holds; a GPU wants few, large calls
        for first in range(0, count, CHUNK):
            part = slice(first, min(first + CHUNK, count))
            logits = kept[0] if kept and not keep else hidden.new_empty(CHUNK, len(weight))
            torch.mm(hidden[part], weight.T, out=logits[: part.stop - first])
            if keep or not kept:
                kept.append(logits)
            for start in range(first, part.stop, tile):
                rows = slice(start, min(start + tile, part.stop))
                place = logits[start - first : rows.stop - first]
                logprobs[rows], entropy[rows], p = softmax_of(place, target[rows], temperature)
                if keep:
                    place.copy_(p)
        ctx.save_for_backward(hidden, weight, target, logprobs)
        ctx.probabilities, ctx.temperature = kept if keep else None, temperature
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, target, logprobs = ctx.saved_tensors
        grad_L = grads[0] / ctx.temperature
        on_target_L = -torch.expm1(logprobs) * grad_L  # (1 - p) in fp32: p itself is rounded
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for first, p in zip(range(0, len(hidden), CHUNK), ctx.probabilities, strict=True):
            part = slice(first, min(first + CHUNK, len(hidden)))
            grad_logits = p[: part.stop - first].mul_(-grad_L[part, None].to(p.dtype))
            grad_logits[torch.arange(len(grad_logits), device=p.device), target[part]] = on_target_L[part].to(p.dtype)
            if grad_hidden is not None:
                torch.mm(grad_logits, weight, out=grad_hidden[part])
            if grad_weight is not None:
                grad_weight += grad_logits.T @ hidden[part]
        ctx.probabilities = None
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None


def softmax_of(logits: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of the target and entropy of each row, and all probabilities, in fp32. log Σ exp is read off the largest
    entry, where the probability cannot vanish, so that the logits are passed over few times."""
    scaled = logits.to(torch.float32, copy=True)
    if temperature != 1.0:
        scaled.div_(temperature)
    p = scaled.softmax(-1)
    lse = scaled.amax(-1) - p.amax(-1).log_()
    entropy = lse - torch.linalg.vecdot(p, scaled)
    return scaled.gather(1, target[:, None])[:, 0] - lse, entropy, p


def packed_hidden(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The body's last hidden states (N, E) of a packed batch. It runs with some padding behind, so that shapes recur."""
    count, device = len(batch.tokens_N), batch.tokens_N.device.type
    more = (rounded_tokens(count) if device == "cpu" else up(count, flex.BLOCK) if device == "cuda" else count) - count
    tokens, positions = (F.pad(values, (0, more)) for values in (batch.tokens_N, batch.positions_N))
    plan = Packed([*batch.reach_N, *[len(tokens)] * more], tokens.device)
    if (parts := parts_of(model)) is not None:
        return fused_body(parts, tokens, positions, plan)[:count]
    output = model.get_decoder()(input_ids=tokens[None], position_ids=positions[None], use_cache=False, plan=plan)
    hidden: Tensor = output.last_hidden_state[0, :count]
    return hidden


def score(model: PreTrainedModel, batch: Batch, *, temperature: float = 1.0) -> Scored:
    """Log-probability of each trained token given what its row shows before it. Differentiable unless under no_grad."""
    count = len(batch.source_L)
    more = rounded_tokens(count) - count if batch.source_L.device.type == "cpu" else 0
    source, target = (F.pad(values, (0, more)) for values in (batch.source_L, batch.target_L))
    chosen = packed_hidden(model, batch).index_select(0, source)
    weight = model.get_output_embeddings().weight
    logprobs, entropy = HeadLogProbs.apply(chosen, weight, target, temperature, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return Scored(logprobs[:count], entropy[:count])
