"""Training on raw text: next-token prediction on packed sequences, each token counting the same in the global batch.

The step is supervised fine-tuning's: a sequence is its pieces (data/sequences.py), each a row whose first token is only read.
Rows see nothing of each other, so attention does not cross documents (Llama 3, arXiv:2407.21783, section 3.2, found this to
matter for long sequences); pieces that begin alike share their beginning in memory, as everywhere.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import AsyncIterator, Callable, Sequence

from posttrain.core.config import MidtrainConfig
from posttrain.core.order import item_at
from posttrain.core.seeds import derive
from posttrain.training.driver import Step
from posttrain.training.policy import Policy
from posttrain.training.sft import Encoded, Rows, total_steps, train_step

Pieces = Callable[["array[int]", "array[int]"], Sequence[tuple["array[int]", "array[int]"]]]


async def midtrain(
    policy: Policy, sequences: Rows, pieces: Pieces, config: MidtrainConfig, *, seed: int, start: int
) -> AsyncIterator[Step]:
    """Train on all sequences in an order fixed by the seed; `pieces` takes one apart."""
    count = len(sequences)
    for index in range(start, total_steps(config, count)):
        began = time.perf_counter()
        positions = range(index * config.batch_size, (index + 1) * config.batch_size)
        chosen = [sequences[item_at(position, count, derive(seed, "order"))] for position in positions]
        rows = [Encoded(*piece) for sequence in chosen for piece in pieces(*sequence)]
        metrics = train_step(policy, rows, config, index)
        metrics |= {"documents": float(len(rows)), "time/step": time.perf_counter() - began}
        yield Step(index, metrics, {}, shown={"loss": metrics["loss"]})
