"""Scalar heads on a language model's body: a number per token for values, per conversation for rewards.

score = hidden · wᵀ without a bias, as `AutoModelForSequenceClassification` has it: with Bradley-Terry only differences
matter, so a bias would not be learnt. Starts from Normal(0, 1/√(E+1)) (arXiv:2009.01325, appendix B.1, which InstructGPT
follows) or from zeros. Products are summed in fp32, whatever the body computes in.
Letters: L positions, E width of the body, M heads, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from posttrain.models.forward import packed_hidden
from posttrain.models.packing import Batch, pack_tokens


class ScalarHead(nn.Module):
    """hidden (L, E) -> (L, M), in fp32. Heads of one body differ by their start alone."""

    def __init__(self, width: int, heads: int = 1, *, seed: int, zeros: bool = False, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        start = torch.zeros(heads, width) if zeros else torch.randn(heads, width, generator=generator) / math.sqrt(width + 1)
        self.weight = nn.Parameter(start.to(dtype))

    def forward(self, hidden_LE: Tensor) -> Tensor:
        return F.linear(hidden_LE.float(), self.weight.float())


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The body's last hidden state at `batch.source_L`, shape (L, E): what stands before each trained token of a batch made
    by `pack`, or at the end of each row of one made by `pack_ends`. Differentiable unless under no_grad."""
    return packed_hidden(model, batch).index_select(0, batch.source_L)


def pack_ends(rows: Sequence[Sequence[int]], *, device: torch.device | str = "cpu") -> Batch:
    """Pack whole rows, shared prefixes stored once, for one number a row: L = R, and `source_L` is each row's last token."""
    if not all(len(row) for row in rows):
        raise ValueError("a row has no tokens, so it has no end to score")
    tokens, positions, reach, where = pack_tokens(rows)

    def tensor(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    ends, last = [place[-1] for place in where], [row[-1] for row in rows]
    return Batch(tensor(tokens), tensor(positions), reach, tensor(ends), tensor(last), tensor(range(len(rows))), len(rows), {})
