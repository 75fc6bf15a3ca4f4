"""Decode steps as CUDA graphs: the model's body and its logits, launched as one.

A decode step is over a thousand small kernels, and starting them one by one from Python takes longer than they run. A CUDA graph
records them once and starts them together. What Python decided is fixed in it: shapes and addresses. So everything that changes
from step to step comes in through a buffer that stays where it is, shapes are rounded up to few, and each has a graph of
its own. Graphs outlive optimizer steps because weights change in place, folded ones too (models/view.py); when keys and values or
a weight have moved after all, every graph is dropped. The sampler stays outside: it looks at its numbers.

A shape is run as it is until it has come `RECORD_AT` times, since recording costs several steps; at most `MOST` shapes are
remembered, the one used longest ago goes first. A step may run twice over (to warm up, then to be recorded): it writes the same
keys and values to the same places again. Assumes that the body never looks at a number on the GPU, as the fused body does not;
`possible` says where that is so, and elsewhere steps run as on a CPU.
Letters: B rows, P prompts, G most rows of a prompt, V vocabulary.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posttrain.generation.native.cache import Block
from posttrain.generation.native.plans import Decode, group_order, visible
from posttrain.generation.native.scheduler import Group, Row, padded_rows, padded_tokens
from posttrain.generation.native.window import Window
from posttrain.models.shapes import rounded_rows, up
from posttrain.models.view import InferenceView

RECORD_AT = 3
"""Times a shape has come when its step is recorded."""

MOST = 64
"""Shapes remembered. A recorded one holds some megabytes of the GPU's memory for its kernels' arguments."""

LOOKS_AT_NUMBERS = ("longrope", "dynamic")
"""Rotary positions whose computation depends on how long the batch is."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes a step that changes tensors in place and gives its replay."""


def possible(view: InferenceView) -> bool:
    rope = getattr(view.module.config.get_text_config(), "rope_parameters", None) or {}
    return view.module.device.type == "cuda" and view.fused and rope.get("rope_type") not in LOOKS_AT_NUMBERS


class CudaRecorder:
    """Records on a stream of its own, all graphs in one pool of memory: only one of them runs at a time."""

    def __init__(self) -> None:
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            run()  # so that libraries take their workspaces now and not while they are recorded
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            run()
        return graph.replay


@dataclass(frozen=True)
class Shape:
    """What a graph has fixed. `stored` is how wide slots are in memory, the prompts' and the rows' own; `own` is how much of the
    latter is read."""

    rows: int
    prompts: int
    most: int
    stored: tuple[int, int]
    own: int


class Step:
    """One shape's buffer, `inputs`, how often it has come, and its replay once it is recorded."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape = shape
        self.inputs = torch.zeros(4 * shape.rows + shape.prompts * shape.most, dtype=torch.long, device=device)
        self.count = 0
        self.replay: Callable[[], None] | None = None


class Graphs:
    """Makes the logits that decode steps draw from. `recorded` counts graphs made so far."""

    def __init__(self, view: InferenceView, prompts: Block, own: Block, max_rows: int, record: Record) -> None:
        self._view, self._prompts, self._own = view, prompts, own
        self._most_rows, self._record = padded_rows(max_rows), record
        self._steps: OrderedDict[Shape, Step] = OrderedDict()
        self._cached_at: tuple[int, ...] = ()
        self._weights_at = view.addresses()
        self._logits_BV: Tensor | None = None
        self.recorded = 0

    def __call__(self, rows: Sequence[Row], groups: Sequence[Group]) -> Tensor:
        """Logits (rows, V), good until the next call."""
        step = self._step(rows, groups)
        step.inputs.copy_(torch.tensor(inputs(rows, step.shape), dtype=torch.long))
        step.count += 1
        if step.replay is None and step.count >= RECORD_AT:
            step.replay = self._record(lambda: self._run(step))
            self.recorded += 1
        if step.replay is not None:
            step.replay()
        else:
            self._run(step)
        assert self._logits_BV is not None
        return self._logits_BV[: len(rows)]

    def renew(self) -> None:
        """The weights changed: drop the graphs if one of them is somewhere else now."""
        if (now := self._view.addresses()) != self._weights_at:
            self._steps.clear()
            self._weights_at = now

    def _step(self, rows: Sequence[Row], groups: Sequence[Group]) -> Step:
        shape = self._fitted(rows, groups)
        if (now := addresses(self._prompts) + addresses(self._own)) != self._cached_at:
            self._steps.clear()
            self._cached_at = now
        step = self._steps.pop(shape, None) or Step(shape, self._view.module.device)
        self._steps[shape] = step  # the newest is last
        if len(self._steps) > MOST:
            self._steps.popitem(last=False)
        return step

    def _fitted(self, rows: Sequence[Row], groups: Sequence[Group]) -> Shape:
        """The shape that these rows run in, and room for it."""
        room = padded_tokens(max(row.limit for row in rows))
        count = min(rounded_rows(len(rows)), self._most_rows)
        if count * room > self._own.most_tokens:
            count = padded_rows(len(rows))
        prompts = rounded_rows(len(groups))
        self._own.fit(count, room)
        self._prompts.fit(prompts, self._prompts.length)
        most = max(group.active for group in groups)
        written = max(len(row.tokens) for row in rows)
        own = min(room, up(written, max(32, 1 << max(0, written.bit_length() - 3))))
        return Shape(count, prompts, 1 << (most - 1).bit_length(), (self._prompts.length, self._own.length), own)

    def _run(self, step: Step) -> None:
        """What is recorded: from the step's buffer to `_logits_BV`, through nothing but calls on tensors."""
        shape, count = step.shape, step.shape.rows
        tokens, lengths, places, place, order = step.inputs.split([count] * 4 + [shape.prompts * shape.most])
        prompts, own = Window(self._prompts, shape.stored[0]), Window(self._own, shape.own)
        plan = Decode(
            prompts,
            own,
            shape.prompts,
            rows_B=torch.arange(count, device=tokens.device),
            places_B=places,
            order_PG=order,
            place_B=place,
            mask_BW=visible(lengths, prompts.length, places, own.length),
        )
        hidden = self._view.body(tokens[:, None], (lengths + places)[:, None], plan)[:, 0]
        logits = self._view.logits(hidden)
        if self._logits_BV is None:  # at a first run, which is never a recorded one
            self._logits_BV = logits.new_empty(self._most_rows, logits.shape[1])
        self._logits_BV[:count].copy_(logits)


def inputs(rows: Sequence[Row], shape: Shape) -> list[int]:
    """A step's buffer: each row's newest token, the length of its prompt, its place among its own tokens, its place in the list by
    prompt; then that list. Rows that fill the shape up write to slots that are nobody's, and nobody reads their result."""
    padding = [0] * (shape.rows - len(rows))
    order, place = group_order([row.group.slot for row in rows], shape.prompts, shape.most)  # type: ignore[union-attr]
    return [
        *(row.tokens[-1] for row in rows),
        *padding,
        *(len(row.group.prompt) for row in rows),  # type: ignore[union-attr]
        *padding,
        *(len(row.tokens) - 1 for row in rows),
        *padding,
        *place,
        *padding,
        *order,
    ]


def addresses(block: Block) -> tuple[int, ...]:
    return tuple(layer.data_ptr() for layers in (block.keys, block.values) for layer in layers)
