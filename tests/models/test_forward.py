"""Packed, shared and fused scoring equals one plain forward of each row."""

from __future__ import annotations

import pytest
import torch

from posttrain.core.config import LoraConfig
from posttrain.core.types import TokenRow, floats, ints
from posttrain.models import attention, forward
from posttrain.models.forward import HeadLogProbs, score
from posttrain.models.load import Loaded
from posttrain.models.lora import add_lora
from posttrain.models.packed_attention import Packed
from posttrain.models.packing import pack

PROMPT = list(range(60, 90))


def rows() -> list[TokenRow]:
    def row(tokens: list[int], start: int) -> TokenRow:
        n = len(tokens)
        return TokenRow(ints(tokens), ints(int(i >= start) for i in range(n)), floats([0.0] * n), ints([0] * n))

    return [row([*PROMPT, 5, 6, 7], 30), row([*PROMPT, 5, 9], 30), row(list(range(100, 120)), 4), row([*PROMPT, 33], 30)]


def plain(toy: Loaded, temperature: float) -> torch.Tensor:
    found = []
    for row in rows():
        ids = torch.tensor([row.tokens.tolist()])
        logits = toy.model(input_ids=ids, use_cache=False, plan=Packed([len(row.tokens)] * len(row.tokens))).logits[0]
        logprobs = (logits / temperature).log_softmax(-1)
        found += [logprobs[i - 1, row.tokens[i]] for i, m in enumerate(row.mask) if m]
    return torch.stack(found)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_and_gradients_equal_separate_forwards(toy: Loaded, temperature: float) -> None:
    weights = torch.linspace(-1, 1, 22)
    toy.model.requires_grad_(True)
    expected = plain(toy, temperature)
    (expected * weights[: len(expected)]).sum().backward()
    wanted = {name: p.grad.clone() for name, p in toy.model.named_parameters() if p.grad is not None}
    toy.model.zero_grad()
    batch = pack(rows())
    assert len(batch.tokens_N) < sum(len(row.tokens) for row in rows())  # something was shared
    got = score(toy.model, batch, temperature=temperature)
    assert torch.allclose(got.logprobs_L, expected, atol=1e-5)
    (got.logprobs_L * weights[: len(expected)]).sum().backward()
    for name, parameter in toy.model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, wanted[name], atol=1e-5, rtol=1e-4), name


def test_entropy_by_hand() -> None:
    weight = torch.eye(4)
    hidden = torch.tensor([[0.0, 0.0, 0.0, 0.0], [50.0, 0.0, 0.0, 0.0]])
    logprobs, entropy = HeadLogProbs.apply(hidden, weight, torch.tensor([2, 0]), 1.0, False)
    assert entropy.tolist() == pytest.approx([1.386294, 0.0], abs=1e-5)  # log 4 and certainty
    assert logprobs.tolist() == pytest.approx([-1.386294, 0.0], abs=1e-5)


def test_head_gradient_against_autograd_over_several_tiles() -> None:
    generator = torch.Generator().manual_seed(0)
    count = forward.CHUNK + forward.TILE + 3
    hidden = torch.randn(count, 8, generator=generator, requires_grad=True)
    weight = torch.randn(11, 8, generator=generator, requires_grad=True)
    target = torch.randint(0, 11, (count,), generator=generator)
    seed = torch.randn(count, generator=generator)
    ours = torch.autograd.grad(HeadLogProbs.apply(hidden, weight, target, 0.8, True)[0], (hidden, weight), seed)
    logits = (hidden @ weight.T / 0.8).log_softmax(-1)
    theirs = torch.autograd.grad(logits.gather(1, target[:, None])[:, 0], (hidden, weight), seed)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_masked_token_changes_nothing_before_it(toy: Loaded) -> None:
    """Tokens after the last trained one, and those of other rows, cannot matter."""
    first, *others = rows()
    alone = score(toy.model, pack([first])).logprobs_L
    together = score(toy.model, pack([first, *others])).logprobs_L[: len(alone)]
    longer = TokenRow(
        first.tokens + ints([1, 2]), first.mask + ints([0, 0]), first.logprobs + floats([0, 0]), first.versions + ints([0, 0])
    )
    assert torch.allclose(alone, together, atol=1e-5)
    assert torch.allclose(alone, score(toy.model, pack([longer])).logprobs_L, atol=1e-5)


def test_a_call_without_a_plan_fails(toy: Loaded) -> None:
    with pytest.raises(TypeError, match="plan"):
        toy.model(input_ids=torch.tensor([[1, 2]]), use_cache=False)


def test_what_attention_cannot_do_is_refused() -> None:
    from transformers import AutoConfig

    from posttrain.core.errors import UserError

    config = AutoConfig.for_model("mistral", sliding_window=4096)
    with pytest.raises(UserError, match="full attention"):
        attention.refuse_unsupported(config, "m")


def test_lora_starts_as_the_identity(toy: Loaded) -> None:
    before = score(toy.model, pack(rows())).logprobs_L
    names = add_lora(toy.model, LoraConfig(), seed=0)
    assert len(names) == 2 * 7  # two layers of q k v o gate up down
    assert torch.equal(score(toy.model, pack(rows())).logprobs_L, before)
