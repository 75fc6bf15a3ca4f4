"""FlexAttention's mask and blocks, from `reach`, against all pairs counted; its output against the CPU's attention."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from posttrain.models.cuda import flex
from posttrain.models.packed_attention import Packed, visible
from posttrain.models.packing import pack_tokens

CPU = torch.device("cpu")


def reaches() -> dict[str, list[int]]:
    prompt = list(range(1000, 1150))
    rows = {
        "one row": [list(range(40))],
        "packing": [list(range(n, 2 * n)) for n in (300, 7, 129, 40)],
        "groups": [[*range(base, base + length), *range(n)] for base, length in ((500, 140), (900, 20)) for n in (30, 200, 90)],
        "tree": [[*prompt, *range(9), 1], [*prompt, *range(9), 2, 3], [*prompt, 77], list(range(256))],
    }
    return {name: pack_tokens(of)[2] for name, of in rows.items()}


@pytest.mark.parametrize("name", reaches())
def test_the_mask_is_the_relation_of_packing(name: str) -> None:
    reach = reaches()[name]
    i = torch.arange(len(reach))
    none = torch.tensor(0)
    found = flex.sees(torch.tensor(reach))(none, none, i[:, None], i[None, :])
    assert torch.equal(found, visible(reach, CPU))


@pytest.mark.parametrize("size", [4, 16, 128])
@pytest.mark.parametrize("name", reaches())
def test_blocks_are_those_that_counting_all_pairs_finds(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "BLOCK", size)
    reach = reaches()[name]
    count = -(-len(reach) // size)
    pairs = torch.zeros(count * size, count * size, dtype=torch.bool)
    pairs[: len(reach), : len(reach)] = visible(reach, CPU)
    seen = pairs.view(count, size, count, size).sum((1, 3))
    some, all_ = flex.blocks(reach)
    assert torch.equal(all_, seen == size * size)
    assert torch.equal(some, (seen > 0) & (seen < size * size))


def test_a_shared_prompts_blocks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two: a prompt of four, then two answers of four that see the prompt but not each other."""
    monkeypatch.setattr(flex, "BLOCK", 2)
    some, all_ = flex.blocks([12] * 4 + [8] * 4 + [12] * 4)
    assert torch.equal(some, torch.eye(6, dtype=torch.bool))
    assert all_.int().tolist() == [
        [0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0],
    ]


def test_the_block_mask_is_the_one_torch_makes_of_all_pairs() -> None:
    reach = reaches()["groups"]
    ours = flex.block_mask(reach, CPU)
    theirs = create_block_mask(flex.sees(torch.tensor(reach)), None, None, len(reach), len(reach), device="cpu")
    assert ours.shape == theirs.shape and ours.BLOCK_SIZE == theirs.BLOCK_SIZE
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):  # the last two are the backward's
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize("name", ["packing", "tree"])
def test_the_output_is_that_of_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the plan, as on a GPU, but run by torch without a kernel."""
    monkeypatch.setattr(flex, "possible", lambda q: True)
    monkeypatch.setattr(flex, "kernel", lambda: flex_attention)
    reach = reaches()[name]
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, len(reach), 16, generator=generator) for heads in (6, 2, 2))
    plan = Packed(reach)
    expected = plan.attend(0, q, k, v, 0.25)
    plan.device, plan.block_mask = torch.device("meta"), flex.block_mask(reach, CPU)
    found = plan.attend(0, q, k, v, 0.25)
    assert found.shape == expected.shape == (1, len(reach), 6, 16)
    assert torch.allclose(found, expected, atol=2e-6)


def test_other_devices_and_full_precision_have_no_kernel() -> None:
    for device, dtype in (("cpu", torch.bfloat16), ("meta", torch.bfloat16), ("cpu", torch.float32)):
        assert not flex.possible(torch.empty(1, 2, 3, 16, device=device, dtype=dtype))
