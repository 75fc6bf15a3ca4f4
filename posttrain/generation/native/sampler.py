"""Logits to tokens, one uniform number a row, by inverting the cumulative distribution.

The usual race of exponential variables draws a random number for every token of the vocabulary, which costs more than
the rest of a decode step on a CPU. Here a row's choice depends on its own uniform number and its own logits alone. The
search has two levels, sums of chunks and then one chunk, so only a few hundred cumulative sums a row are made.
Log-probabilities are natural logs of the temperature-scaled softmax over the full vocabulary in fp32, whatever top-k
and top-p cut away; greedy rows (temperature 0) report them at temperature 1.
Letters: B rows, V vocabulary, C chunks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from posttrain.core.errors import PromiseBroken
from posttrain.core.types import Sampling

CHUNK = 128
NUCLEUS_CANDIDATES = 1024  # top-p looks at the most likely tokens first, and sorts the whole vocabulary only if they are too few


class Sampler:
    """Keeps its fp32 buffers between steps: fresh memory of this size costs as much as the arithmetic."""

    def __init__(self) -> None:
        self._logits = self._probabilities = torch.empty(0, 0)

    def __call__(
        self, logits_BV: Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        """A token for every row, and its log-probability."""
        logits_BV, probabilities_BV = self._softmax(logits_BV, samplings)
        if not bool(probabilities_BV[:, 0].isfinite().all()):  # one logit that is not finite spoils its whole row
            raise PromiseBroken("the model's logits are not finite.", fix="Its weights have diverged: use an earlier checkpoint.")
        greedy = [sampling.temperature == 0 for sampling in samplings]
        if all(greedy):
            tokens_B = logits_BV.argmax(-1)
        else:
            tokens_B = draw(
                restricted(probabilities_BV, samplings), torch.tensor(uniforms, dtype=torch.float64, device=logits_BV.device)
            )
            if any(greedy):
                tokens_B = torch.where(torch.tensor(greedy, device=tokens_B.device), logits_BV.argmax(-1), tokens_B)
        logprobs_B = probabilities_BV.gather(1, tokens_B[:, None])[:, 0].log()
        return tokens_B.tolist(), logprobs_B.tolist()

    def likeliest(self, counts: Sequence[int]) -> list[tuple[tuple[int, float], ...]]:
        """For each row of the last call, that many of its likeliest tokens with their log-probabilities; nothing cut away."""
        most = min(max(counts, default=0), self._probabilities.shape[1])
        if not most:
            return [()] * len(counts)
        values_BK, tokens_BK = self._probabilities[: len(counts)].topk(most, -1)
        rows = zip(tokens_BK.tolist(), values_BK.log().tolist(), counts, strict=True)
        return [tuple(zip(tokens[:count], values[:count], strict=True)) for tokens, values, count in rows]

    def _softmax(self, logits_BV: Tensor, samplings: Sequence[Sampling]) -> tuple[Tensor, Tensor]:
        rows, vocabulary = logits_BV.shape
        if self._logits.shape[0] < rows or self._logits.shape[1] != vocabulary or self._logits.device != logits_BV.device:
            self._logits, self._probabilities = (torch.empty(rows, vocabulary, device=logits_BV.device) for _ in range(2))
        scaled = self._logits[:rows].copy_(logits_BV)
        temperatures = [sampling.temperature or 1.0 for sampling in samplings]
        if any(temperature != 1.0 for temperature in temperatures):
            scaled /= torch.tensor(temperatures, device=scaled.device)[:, None]
        return scaled, torch.softmax(scaled, -1, out=self._probabilities[:rows])


def draw(probabilities_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The token at which each row's cumulative mass passes its uniform number. Never one without mass: the search
    is for the first sum strictly above a target that is strictly below the total."""
    missing = -probabilities_BV.shape[1] % CHUNK
    chunks_BCX = (F.pad(probabilities_BV, (0, missing)) if missing else probabilities_BV).unflatten(1, (-1, CHUNK))
    sums_BC = chunks_BCX.sum(-1).double().cumsum(-1)
    target_B1 = uniforms_B[:, None] * sums_BC[:, -1:]
    chunk_B1 = torch.searchsorted(sums_BC, target_B1, right=True).clamp_(max=sums_BC.shape[1] - 1)
    before_B1 = torch.where(chunk_B1 > 0, sums_BC.gather(1, (chunk_B1 - 1).clamp_(min=0)), 0.0)
    inside_BX = chunks_BCX[torch.arange(len(chunks_BCX), device=chunk_B1.device), chunk_B1[:, 0]].double().cumsum(-1)
    below_B1 = torch.nextafter(inside_BX[:, -1:], torch.zeros_like(before_B1))
    inner_B1 = torch.searchsorted(inside_BX, torch.minimum(target_B1 - before_B1, below_B1), right=True).clamp_(max=CHUNK - 1)
    return (chunk_B1 * CHUNK + inner_B1)[:, 0]


def restricted(probabilities_BV: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """The distribution to draw from: without what top-k and then top-p cut away (not normalised)."""
    cut = [i for i, sampling in enumerate(samplings) if (sampling.top_k or sampling.top_p < 1) and sampling.temperature > 0]
    if not cut:
        return probabilities_BV
    kept_BV = probabilities_BV.clone()
    kept_BV[cut] = most_likely(probabilities_BV[cut], [samplings[i].top_k for i in cut], [samplings[i].top_p for i in cut])
    return kept_BV


def most_likely(probabilities_NV: Tensor, top_k: Sequence[int], top_p: Sequence[float]) -> Tensor:
    """Keep each row's `top_k` most likely tokens (0: all), of these the fewest whose share reaches `top_p`; zero the rest."""
    vocabulary, device = probabilities_NV.shape[1], probabilities_NV.device
    limit_N1 = torch.tensor([k or vocabulary for k in top_k], device=device)[:, None]
    share_N1 = torch.tensor(top_p, device=device)[:, None]
    width = min(vocabulary, max(k or NUCLEUS_CANDIDATES for k in top_k))
    values_NX, tokens_NX = probabilities_NV.topk(width, -1)
    if width < vocabulary and bool(((limit_N1 > width) & (values_NX.sum(-1, keepdim=True) < share_N1)).any()):
        values_NX, tokens_NX = probabilities_NV.sort(dim=-1, descending=True, stable=True)
    values_NX = values_NX * (torch.arange(values_NX.shape[1], device=device) < limit_N1)
    total_N1 = torch.where(limit_N1 > width, probabilities_NV.sum(-1, keepdim=True), values_NX.sum(-1, keepdim=True))
    before_NX = values_NX.cumsum(-1) - values_NX
    values_NX = values_NX * ((before_NX < share_N1 * total_N1) | (share_N1 >= 1))
    return torch.zeros_like(probabilities_NV).scatter_(1, tokens_NX, values_NX)
