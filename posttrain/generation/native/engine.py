"""The native engine: one model in this process, many completions at a time.

Requests of one turn of the event loop are admitted together and in order; the engine then runs synchronous steps and
lets the loop turn between them, so that graders work meanwhile. New requests enter between steps only. What a row is
given depends on its prompt, its seed and the weights; in bf16 also, by rounding, on the batch it ran in, which is
itself a function of what was submitted and never of the clock, unless requests are made to arrive by the clock.
After `update`, running rows go on with the new weights over the keys and values they already have; each token records
the version that wrote it.
"""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import PretrainedConfig

from posttrain.core.errors import PosttrainError, UserError
from posttrain.core.types import Completion, Sampling
from posttrain.generation.native import graphs
from posttrain.generation.native.cache import Block
from posttrain.generation.native.plans import Decode, Prefill, Run, group_order, visible
from posttrain.generation.native.sampler import Sampler
from posttrain.generation.native.scheduler import Group, Move, Request, Row, Scheduler, Watch, padded_rows, padded_tokens
from posttrain.generation.native.stopping import Decode as DecodeText
from posttrain.generation.native.stopping import ending
from posttrain.models.attention import Plan
from posttrain.models.shapes import rounded_tokens
from posttrain.models.view import InferenceView

PREFILL_TOKENS = 4096  # packed tokens of one prefill: bounds its memory; a longer prompt is read alone


class NativeEngine:
    """Implements core.protocols.Generator over a model that attends by plan.

    `decode` turns tokens into text without special tokens; any token of `stop_ids` ends a completion. At most
    `max_rows` completions are written at a time, and at most `cache_tokens` tokens of keys and values are held.
    """

    def __init__(
        self,
        view: InferenceView,
        decode: DecodeText,
        stop_ids: Iterable[int],
        *,
        max_rows: int = 128,
        cache_tokens: int = 65_536,
        version: int = 0,
    ) -> None:
        self.view, self.decode, self.stop_ids, self.version = view, decode, frozenset(stop_ids), version
        config = view.module.config.get_text_config()
        refuse_scaled_logits(config)
        self.context, self.vocabulary = int(config.max_position_embeddings), int(config.vocab_size)
        heads = config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._scheduler = Scheduler(max_rows, cache_tokens)
        self._prompts, self._own = (
            Block(
                config.num_hidden_layers,
                getattr(config, "num_key_value_heads", None) or heads,
                head_size,
                dtype=view.module.dtype,
                device=view.module.device,
                most_tokens=cache_tokens,
            )
            for _ in range(2)
        )
        self._graphs: graphs.Graphs | None = None
        if graphs.possible(view):
            self._graphs = graphs.Graphs(view, self._prompts, self._own, max_rows, graphs.CudaRecorder())
        self._sampler = Sampler()
        self._pump: asyncio.Task[None] | None = None

    async def generate(
        self, prompt: array[int], sampling: Sampling, *, seed: int, top: int = 0, watch: Watch | None = None
    ) -> Completion:
        """Write one completion, with the `top` likeliest tokens at each place; `watch` is shown each token as it is written.
        Cancelling the call frees its place. Raises UserError for a prompt that cannot be read."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()

        def deliver(completion: Completion) -> None:
            if not future.done():
                future.set_result(completion)

        def fail(error: BaseException) -> None:
            if not future.done():
                future.set_exception(error) if isinstance(error, Exception) else future.cancel()

        row = self._row(Request(prompt, sampling, seed, top, watch), deliver, fail)
        if self._pump is None or self._pump.done():
            self._pump = loop.create_task(self._run(), name="native engine")
        elif self._pump.get_loop() is not loop:
            raise PosttrainError("the engine is in use by another event loop", fix="Use one engine from one loop at a time.")
        self._scheduler.submit(row)
        try:
            return await future
        except asyncio.CancelledError:
            self._move(self._scheduler.remove(row))
            raise

    async def update(self, version: int) -> None:
        """Take over the trainer's weights as they are now."""
        self.view.refresh()
        if self._graphs is not None:
            self._graphs.renew()
        self.version = version
        self._move(self._scheduler.renew())

    def generate_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Write all completions, in the order of the requests, without an event loop."""
        done: dict[int, Completion] = {}
        rows = [
            self._row(request, lambda completion, i=i: done.__setitem__(i, completion), lambda error: None)  # type: ignore[misc]
            for i, request in enumerate(requests)
        ]
        for row in rows:
            self._scheduler.submit(row)
        while len(done) < len(rows):
            self._step()
        return [done[i] for i in range(len(rows))]

    def _row(self, request: Request, deliver: Callable[[Completion], None], fail: Callable[[BaseException], None]) -> Row:
        """A row for a request, refused here if it could never run, so that it cannot fail the others."""
        prompt, room = request.prompt, self.context - len(request.prompt)
        if not prompt:
            raise UserError("the prompt is empty.", fix="Give at least one token, such as the chat template's first.")
        if min(prompt) < 0 or max(prompt) >= self.vocabulary:
            raise UserError(f"the prompt has a token outside 0..{self.vocabulary - 1}.", fix="Use the model's own tokenizer.")
        if room < 1:
            raise UserError(f"the prompt has {len(prompt)} tokens; the model's context is {self.context}.", fix="Shorten it.")
        row = Row(request, min(request.sampling.max_tokens, room), deliver, fail)
        needed, most = self._scheduler.alone(row), self._scheduler.cache_tokens
        if needed > most:
            raise UserError(f"the request needs {needed} tokens of cache of {most}.", fix="Lower max_tokens or raise cache_tokens.")
        return row

    async def _run(self) -> None:
        """Step until nothing is left. One turn of the loop first, so that all requests of this turn are admitted together."""
        try:
            await asyncio.sleep(0)
            while self._scheduler.busy:
                self._step()
                await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            self._abandon(error)
            raise
        except Exception:  # the border to the callers: `_step` has handed the error to every one of them
            return
        finally:
            self._pump = None

    def _abandon(self, error: BaseException) -> None:
        for row in self._scheduler.clear():
            row.fail(error)

    def _step(self) -> None:
        """Admit what fits, or else write one token for every running row. An error fails every row, running or waiting."""
        try:
            with torch.inference_mode():
                rows, fresh = self._scheduler.admit()
                if rows:
                    self._prefill(fresh)
                    groups = list(dict.fromkeys(row.group for row in rows))
                    logits = self._logits(torch.stack([group.hidden for group in groups]))  # type: ignore[union-attr]
                    self._accept(rows, logits[torch.tensor([groups.index(row.group) for row in rows], device=logits.device)])
                else:
                    rows = list(self._scheduler.rows)
                    recorded = self._graphs
                    self._accept(rows, recorded(rows, self._scheduler.groups) if recorded else self._logits(self._decode(rows)))
        except BaseException as error:
            self._abandon(error)
            raise

    def _prefill(self, groups: Sequence[Group]) -> None:
        """Read new prompts, many packed into one row of tokens, and keep what each predicts its first token from."""
        if not groups:
            return
        self._prompts.fit(len(self._scheduler.groups), padded_tokens(max(len(group.prompt) for group in self._scheduler.groups)))
        for pack in packs(groups, PREFILL_TOKENS):
            runs, start = [], 0
            for length, equal in itertools.groupby(pack, key=lambda group: len(group.prompt)):
                slots = self._tensor([group.slot for group in equal])
                runs.append(Run(slots, start, length))
                start += len(slots) * length
            padding = rounded_tokens(start) - start
            tokens = self._tensor([token for group in pack for token in group.prompt] + [0] * padding)
            lengths = [len(group.prompt) for group in pack] + [padding]
            positions = torch.cat([torch.arange(length, device=tokens.device) for length in lengths])
            hidden = self._body(tokens[None], positions[None], Prefill(self._prompts, runs))[0]
            ends = itertools.accumulate(len(group.prompt) for group in pack)
            for group, end in zip(pack, ends, strict=True):
                group.hidden = hidden[end - 1].clone()  # a copy, so that the other positions can go

    def _decode(self, rows: Sequence[Row]) -> Tensor:
        """What every row predicts its next token from. The batch is padded with rows whose result nobody reads."""
        groups = self._scheduler.groups
        padding = [0] * (padded_rows(len(rows)) - len(rows))
        written = [len(row.tokens) - 1 for row in rows] + padding
        prompts = [len(row.group.prompt) for row in rows] + padding  # type: ignore[union-attr]
        slots = [row.group.slot for row in rows]  # type: ignore[union-attr]
        self._own.fit(len(written), padded_tokens(max(written) + 1))
        order, place = group_order(slots, len(groups))
        aligned = not padding and order == place == list(range(len(rows)))
        places, lengths = self._tensor(written), self._tensor(prompts)
        plan = Decode(
            self._prompts,
            self._own,
            len(groups),
            rows_B=torch.arange(len(written), device=places.device),
            places_B=places,
            order_PG=None if aligned else self._tensor(order),
            place_B=None if aligned else self._tensor(place + padding),
            mask_BW=visible(lengths, self._prompts.length, places, self._own.length),
        )
        tokens = self._tensor([row.tokens[-1] for row in rows] + padding)
        return self._body(tokens[:, None], (lengths + places)[:, None], plan)[: len(rows), 0]

    def _body(self, tokens_BT: Tensor, positions_BT: Tensor, plan: Plan) -> Tensor:
        return self.view.body(tokens_BT, positions_BT, plan)

    def _logits(self, hidden_BE: Tensor) -> Tensor:
        return self.view.logits(hidden_BE)

    def _accept(self, rows: Sequence[Row], logits_BV: Tensor) -> None:
        """Draw a token for every row; deliver the rows that end with it."""
        samplings = [row.request.sampling for row in rows]
        tokens, logprobs = self._sampler(logits_BV, samplings, [row.uniform() for row in rows])
        tops = self._sampler.likeliest([row.request.top for row in rows])
        for row, token, logprob, top in zip(rows, tokens, logprobs, tops, strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            row.versions.append(self.version)
            if row.request.top:
                row.top.append(top)
            if row.request.watch is not None:
                row.request.watch(token, logprob, top)
        for row in rows:
            end = ending(row.tokens, row.limit, row.request.sampling.stop, self.stop_ids, self.decode)
            if end is not None:
                row.deliver(Completion(row.tokens, row.logprobs, row.versions, end[1], end[0], tuple(row.top)))
                self._move(self._scheduler.remove(row))

    @torch.inference_mode()
    def _move(self, moves: Iterable[Move]) -> None:
        for move in moves:
            block = self._own if move.what == "row" else self._prompts
            block.move(move.source, move.target, move.length)

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.view.module.device)


def packs(groups: Sequence[Group], most_tokens: int) -> Iterator[list[Group]]:
    """Groups by length, in packs of at most `most_tokens` tokens of prompt, or one group."""
    pack: list[Group] = []
    for group in sorted(groups, key=lambda group: len(group.prompt)):
        if pack and sum(len(other.prompt) for other in pack) + len(group.prompt) > most_tokens:
            yield pack
            pack = []
        pack.append(group)
    yield pack


def refuse_scaled_logits(config: PretrainedConfig) -> None:
    """The engine applies the output layer itself, so it must know of everything that follows it."""
    for name in ("final_logit_softcapping", "logits_scaling", "logit_scale"):
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise UserError(f"this model changes its logits after the output layer ({name})", fix="Use a model without it.")
