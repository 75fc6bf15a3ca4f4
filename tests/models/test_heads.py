"""Scalar heads by hand, the end of each row in a shared batch, and siblings that share what is frozen and nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from posttrain.core.config import LoraConfig
from posttrain.core.types import TokenRow, floats, ints
from posttrain.models.forward import score
from posttrain.models.heads import ScalarHead, hidden_states, pack_ends
from posttrain.models.load import Loaded
from posttrain.models.lora import adapters, add_lora, merged_state
from posttrain.models.packed_attention import Packed
from posttrain.models.packing import pack
from posttrain.models.sibling import sibling

PROMPT = list(range(60, 80))
ROWS = [[*PROMPT, 5, 6, 7], [*PROMPT, 5, 9], list(range(100, 120)), [*PROMPT, 5, 6], [*PROMPT, 5, 9]]


def trained_row(tokens: list[int], first: int) -> TokenRow:
    count = len(tokens)
    return TokenRow(ints(tokens), ints(int(i >= first) for i in range(count)), floats([0.0] * count), ints([0] * count))


def nudge(model: torch.nn.Module, seed: int) -> None:
    """Give fresh adapters something to say: B starts at 0."""
    generator = torch.Generator().manual_seed(seed)
    for layer in adapters(model).values():
        layer.lora_B.data = torch.randn(layer.lora_B.shape, generator=generator) * 0.1


def test_heads_by_hand() -> None:
    head = ScalarHead(2, 2, seed=0)
    head.weight.data = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    assert head(torch.tensor([[3.0, 4.0], [1.0, 0.5]])).tolist() == [[11.0, -4.0], [2.0, -0.5]]


def test_heads_sum_in_full_precision() -> None:
    """In bf16 1 + 257 ones would stay at 256."""
    head = ScalarHead(258, seed=0, dtype=torch.bfloat16)
    head.weight.data.fill_(1.0)
    found = head(torch.ones(1, 258, dtype=torch.bfloat16))
    assert found.dtype == torch.float32 and found.item() == 258.0


def test_where_heads_start() -> None:
    weight = ScalarHead(1023, 64, seed=3).weight
    assert weight.std().item() == pytest.approx(1 / math.sqrt(1024), rel=0.02)
    assert not torch.equal(weight[0], weight[1])
    assert torch.equal(weight, ScalarHead(1023, 64, seed=3).weight)
    assert not ScalarHead(4, zeros=True, seed=0).weight.any()


def test_the_end_of_each_row_of_a_shared_batch(toy: Loaded) -> None:
    batch = pack_ends(ROWS)
    assert len(batch.tokens_N) < sum(map(len, ROWS)) and len(batch) == len(ROWS)
    together = hidden_states(toy.model, batch)
    for row, found in zip(ROWS, together, strict=True):
        ids = torch.tensor([row])
        plain = toy.model.get_decoder()(input_ids=ids, use_cache=False, plan=Packed([len(row)] * len(row))).last_hidden_state[0]
        assert torch.allclose(found, plain[-1], atol=1e-5)


def test_hidden_states_before_each_trained_token(toy: Loaded) -> None:
    """The body's state there, through the model's own output layer, gives the log-probabilities that `score` gives."""
    batch = pack([trained_row(row, 18) for row in ROWS[:3]])
    logits = toy.model.get_output_embeddings()(hidden_states(toy.model, batch))
    logprobs = logits.log_softmax(-1).gather(1, batch.target_L[:, None])[:, 0]
    assert torch.allclose(logprobs, score(toy.model, batch).logprobs_L, atol=1e-5)


def test_an_empty_row_has_no_end() -> None:
    with pytest.raises(ValueError, match="no tokens"):
        pack_ends([[1, 2], []])


def test_a_sibling_shares_what_is_frozen_and_has_adapters_of_its_own(toy: Loaded) -> None:
    add_lora(toy.model, LoraConfig(rank=2), seed=0)
    twin = sibling(toy.model, LoraConfig(rank=4), seed=1)
    ours, theirs = dict(toy.model.named_parameters()), dict(twin.named_parameters())
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert (ours[name] is theirs[name]) == ("lora_" not in name), name
    assert {layer.lora_A.shape[0] for layer in adapters(twin).values()} == {4}


def test_a_sibling_starts_with_the_others_adapters_off_and_neither_moves_the_other(toy: Loaded) -> None:
    batch = pack_ends(ROWS)
    base = hidden_states(toy.model, batch)
    add_lora(toy.model, LoraConfig(rank=2), seed=0)
    nudge(toy.model, 1)
    moved = hidden_states(toy.model, batch)
    twin = sibling(toy.model, LoraConfig(rank=2), seed=1)
    assert torch.equal(hidden_states(twin, batch), base) and not torch.allclose(moved, base, atol=1e-3)
    nudge(twin, 2)
    assert torch.equal(hidden_states(toy.model, batch), moved)
    hidden_states(twin, batch).sum().backward()
    assert all(p.grad is None for p in toy.model.parameters())
    assert all(layer.lora_B.grad is not None for layer in adapters(twin).values())


def test_a_full_copy_shares_nothing_and_trains_all(toy: Loaded) -> None:
    add_lora(toy.model, LoraConfig(rank=2), seed=0)
    twin = sibling(toy.model, None, seed=0)
    assert not adapters(twin) and all(p.requires_grad for p in twin.parameters())
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in toy.model.parameters()}
    assert twin.state_dict().keys() == merged_state(toy.model).keys()


def test_a_sibling_of_a_model_that_trains_whole_copies_it(toy: Loaded) -> None:
    toy.model.requires_grad_(True)
    twin = sibling(toy.model, LoraConfig(rank=2), seed=0)
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in toy.model.parameters()}
    assert all(p.requires_grad for p in toy.model.parameters())
