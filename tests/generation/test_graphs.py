"""Recorded decode steps against the engine without them, token for token.

A tape stands in for a CUDA graph: it keeps the calls on tensors that a step made and makes them again, on the same tensors. As in
a graph, whatever Python decided is fixed, and only what was written into those tensors since can change the result.
"""

from __future__ import annotations

import asyncio
import random
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from transformers import Qwen2Config, Qwen2ForCausalLM

from posttrain.core.config import LoraConfig
from posttrain.core.types import Completion, Sampling
from posttrain.generation.native import NativeEngine, Request, graphs
from posttrain.generation.native.graphs import Graphs, Shape
from posttrain.generation.native.scheduler import Group, Row
from posttrain.models import attention
from posttrain.models.load import Loaded
from posttrain.models.lora import add_lora
from posttrain.models.view import InferenceView


class Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert function is not torch.ops.aten._local_scalar_dense.default, "a graph cannot look at a number"
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        now: dict[int, Any] = {}
        for function, args, kwargs, result in self.calls:
            args, kwargs = tree_map(lambda x: now.get(id(x), x), (args, kwargs))
            again = function(*args, **kwargs)
            pairs = zip(tree_leaves(result), tree_leaves(again), strict=True)
            now.update({id(before): after for before, after in pairs if isinstance(before, torch.Tensor)})


def tape(run: Callable[[], None]) -> Callable[[], None]:
    kept = Tape()
    with kept:
        run()
    return kept.replay


def plain(loaded: Loaded, stop_ids: Sequence[int] = (), **settings: int) -> NativeEngine:
    return NativeEngine(InferenceView(loaded.model), loaded.tokenizer.decode, stop_ids, **settings)


def recorded(loaded: Loaded, stop_ids: Sequence[int] = (), **settings: int) -> tuple[NativeEngine, Graphs]:
    native = plain(loaded, stop_ids, **settings)
    native._graphs = Graphs(native.view, native._prompts, native._own, settings.get("max_rows", 128), tape)
    return native, native._graphs


def requests(count: int, samples: int, *, max_tokens: int = 20, seed: int = 0) -> list[Request]:
    stream = random.Random(seed)
    prompts = [array("i", [stream.randrange(256) for _ in range(stream.randint(1, 40))]) for _ in range(count)]
    return [
        Request(prompt, Sampling(max_tokens=max_tokens), 100 * i + s) for i, prompt in enumerate(prompts) for s in range(samples)
    ]


def same(found: Sequence[Completion], expected: Sequence[Completion]) -> bool:
    assert [list(one.tokens) for one in found] == [list(one.tokens) for one in expected]
    one, other = (torch.tensor([p for completion in of for p in completion.logprobs]) for of in (found, expected))
    return torch.allclose(one, other, atol=1e-5)


@pytest.fixture
def qwen(toy: Loaded) -> Loaded:
    """A model with biases, which the view stacks into tensors of its own."""
    config = Qwen2Config(
        vocab_size=toy.model.config.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=256,
        attn_implementation=attention.NAME,
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return Loaded(model, toy.tokenizer, toy.path)


@pytest.mark.parametrize("max_rows", [1, 3, 8, 128])
def test_refilled_slots(toy: Loaded, max_rows: int) -> None:
    stop_ids = range(60)  # ends rows at different lengths, so that slots empty and fill all the time
    asked = requests(6, 4)
    native, made = recorded(toy, stop_ids, max_rows=max_rows)
    assert same(native.generate_batch(asked), plain(toy, stop_ids, max_rows=max_rows).generate_batch(asked))
    assert made.recorded > 0
    again = requests(6, 4, seed=1)
    assert same(native.generate_batch(again), plain(toy, stop_ids, max_rows=max_rows).generate_batch(again))


def test_growing_widths_are_few_shapes(toy: Loaded) -> None:
    asked = requests(3, 4, max_tokens=150)
    native, made = recorded(toy)
    assert same(native.generate_batch(asked), plain(toy).generate_batch(asked))
    assert [shape.own for shape in made._steps] == [32, 64, 96, 128, 160]
    assert {shape.stored[1] for shape in made._steps} == {160}  # room for all of it from the start: nothing moved
    assert made.recorded == 5
    assert same(native.generate_batch(asked), plain(toy).generate_batch(asked))
    assert made.recorded == 5


def test_rows_with_different_limits_and_a_tight_cache(toy: Loaded) -> None:
    asked = [*requests(3, 2, max_tokens=60), *requests(4, 2, max_tokens=9, seed=1), *requests(1, 2, max_tokens=100, seed=2)]
    native, made = recorded(toy, cache_tokens=600)
    assert same(native.generate_batch(asked), plain(toy, cache_tokens=600).generate_batch(asked))
    assert made.recorded > 2
    assert native._own.slots * native._own.length <= 600


def test_keys_that_move_drop_the_graphs(toy: Loaded) -> None:
    native, made = recorded(toy)
    native.generate_batch(requests(1, 2))
    small = list(made._steps.values())
    many = requests(6, 4, seed=1)
    assert same(native.generate_batch(many), plain(toy).generate_batch(many))  # more rows, so other memory
    assert small and not set(map(id, small)) & set(map(id, made._steps.values()))
    few = requests(1, 2)
    assert same(native.generate_batch(few), plain(toy).generate_batch(few))


def test_graphs_outlive_an_update(toy: Loaded) -> None:
    asked = requests(2, 3)
    native, made = recorded(toy)
    before = native.generate_batch(asked)
    count = made.recorded
    with torch.no_grad():
        toy.model.model.layers[0].mlp.down_proj.weight.mul_(3.0)
        toy.model.model.embed_tokens.weight.mul_(2.0)
    asyncio.run(native.update(1))
    after = native.generate_batch(asked)
    assert same(after, plain(toy).generate_batch(asked))
    assert [one.tokens for one in after] != [one.tokens for one in before]
    assert made.recorded == count > 0


@pytest.mark.parametrize("lora", [False, True])
def test_graphs_outlive_an_update_of_biases_and_of_adapters(qwen: Loaded, lora: bool) -> None:
    if lora:
        add_lora(qwen.model, LoraConfig(rank=2), seed=0)
    asked = requests(2, 3)
    native, made = recorded(qwen)
    before = native.generate_batch(asked)
    assert same(before, plain(qwen).generate_batch(asked))
    count = made.recorded
    with torch.no_grad():
        for name, parameter in qwen.model.named_parameters():
            if name.endswith("lora_B" if lora else "bias"):
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    asyncio.run(native.update(1))
    after = native.generate_batch(asked)
    assert same(after, plain(qwen).generate_batch(asked))
    assert [one.tokens for one in after] != [one.tokens for one in before]
    assert made.recorded == count > 0


def test_a_weight_that_moved_drops_the_graphs(toy: Loaded) -> None:
    asked = requests(2, 3)
    native, made = recorded(toy)
    native.generate_batch(asked)
    count = made.recorded
    weight = toy.model.model.layers[1].self_attn.o_proj.weight
    weight.data = weight.data * 2.0
    asyncio.run(native.update(1))
    assert same(native.generate_batch(asked), plain(toy).generate_batch(asked))
    assert made.recorded == 2 * count


def test_a_call_cancelled_and_weights_changed_on_the_way(toy: Loaded) -> None:
    asked = requests(3, 2, max_tokens=30)
    start = {name: value.clone() for name, value in toy.model.state_dict().items()}

    async def disturbed(native: NativeEngine) -> list[Completion]:
        calls = [asyncio.ensure_future(native.generate(r.prompt, r.sampling, seed=r.seed)) for r in asked]
        for _ in range(10):
            await asyncio.sleep(0)
        calls[1].cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        with torch.no_grad():
            toy.model.model.embed_tokens.weight.mul_(1.5)
        await native.update(1)
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in done] == [i == 1 for i in range(6)]
        return [result for result in done if isinstance(result, Completion)]

    native, made = recorded(toy, max_rows=4)
    found = asyncio.run(disturbed(native))
    toy.model.load_state_dict(start)
    assert same(found, asyncio.run(disturbed(plain(toy, max_rows=4))))
    assert made.recorded > 0


def test_the_number_of_graphs_is_bounded(toy: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST", 2)
    asked = requests(3, 4, max_tokens=150)
    native, made = recorded(toy)
    for _ in range(2):
        assert same(native.generate_batch(asked), plain(toy).generate_batch(asked))
        assert [shape.own for shape in made._steps] == [128, 160]  # the last two
    assert made.recorded == 10


def test_a_steps_buffer_by_hand() -> None:
    """Rows of prompts 1, 0, 1 in a shape of four rows, two prompts, two rows a prompt."""
    groups = [Group(array("i", [7, 8]), 0, 1), Group(array("i", [9]), 1, 2)]
    rows = []
    for group, tokens in ((1, [3]), (0, [4, 5, 6]), (1, [1, 2])):
        row = Row(Request(groups[group].prompt, Sampling(), 0), 20, lambda done: None, lambda error: None, array("i", tokens))
        row.group = groups[group]
        rows.append(row)
    assert graphs.inputs(rows, Shape(4, 2, 2, (32, 32), 32)) == [
        *(3, 6, 2, 0),  # newest tokens
        *(1, 2, 1, 0),  # lengths of prompts
        *(0, 2, 1, 0),  # places among their own tokens
        *(2, 0, 3, 0),  # where each stands in the list below
        *(1, 1, 0, 2),  # prompt 0: row 1, again to fill it up; prompt 1: rows 0 and 2
    ]


def test_without_a_gpu_nothing_is_recorded(toy: Loaded) -> None:
    assert plain(toy)._graphs is None
