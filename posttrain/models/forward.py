"""Log-probabilities and entropies of the trained tokens of a packed batch: the body on every token, the head on those alone.

The head never makes a full-precision copy of all its logits: matrix products in the model's precision, softmax in fp32
over a tile of rows at a time, gradient formed from the kept low-precision logits. Letters: L trained tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from posttrain.models.packed_attention import Packed
from posttrain.models.packing import Batch

TILE = 64


@dataclass(frozen=True)
class Scored:
    """logprobs_L carries the gradient; entropy_L (nats, of the scaled softmax) does not."""

    logprobs_L: Tensor
    entropy_L: Tensor


class HeadLogProbs(torch.autograd.Function):
    """hidden (L, E), weight (V, E), target (L) -> log-probability and entropy of softmax(hidden · weightᵀ / temperature)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        logits = F.linear(hidden, weight)
        count = len(hidden)
        logprobs, entropy, lse = (torch.empty(count, dtype=torch.float32, device=hidden.device) for _ in range(3))
        for start in range(0, count, TILE):
            rows = slice(start, start + TILE)
            scaled = logits[rows].to(torch.float32, copy=True).div_(temperature)
            norm = scaled.logsumexp(-1)
            logprobs[rows] = scaled.gather(1, target[rows, None])[:, 0] - norm
            entropy[rows] = norm - (scaled.sub(norm[:, None]).exp_() * scaled).sum(-1)
            lse[rows] = norm
        ctx.save_for_backward(hidden, weight, target, logits, lse)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, target, logits, lse = ctx.saved_tensors
        grad_L = grads[0] / ctx.temperature
        grad_logits = torch.empty_like(logits)
        for start in range(0, len(hidden), TILE):
            rows = slice(start, start + TILE)
            p = logits[rows].to(torch.float32, copy=True).div_(ctx.temperature).sub_(lse[rows, None]).exp_()
            p.mul_(-grad_L[rows, None])
            p.scatter_add_(1, target[rows, None], grad_L[rows, None])
            grad_logits[rows] = p
        grad_hidden = grad_logits @ weight if ctx.needs_input_grad[0] else None
        grad_weight = grad_logits.T @ hidden if ctx.needs_input_grad[1] else None
        return grad_hidden, grad_weight, None, None


def score(model: PreTrainedModel, batch: Batch, *, temperature: float = 1.0) -> Scored:
    """Log-probability of each trained token given what its row shows before it. Differentiable unless under no_grad."""
    plan = Packed(batch.reach_N, batch.tokens_N.device)
    hidden = model.get_decoder()(input_ids=batch.tokens_N[None], position_ids=batch.positions_N[None], use_cache=False, plan=plan)
    chosen = hidden.last_hidden_state[0].index_select(0, batch.source_L)
    logprobs, entropy = HeadLogProbs.apply(chosen, model.get_output_embeddings().weight, batch.target_L, temperature)  # type: ignore[no-untyped-call]
    return Scored(logprobs, entropy)
