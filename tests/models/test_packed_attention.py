"""The block attention and its backward against a dense masked softmax in fp64."""

from __future__ import annotations

import pytest
import torch

from posttrain.models.packed_attention import Packed, SharedAttention, blocks, visible
from posttrain.models.packing import pack_tokens

H, K, D = 6, 2, 16


def trees() -> dict[str, list[list[int]]]:
    prompt, turn = list(range(20, 30)), list(range(40, 44))
    return {
        "packing": [[1, 2, 3], [4, 5], [6, 7, 8, 9]],
        "group": [[*prompt, 1, 2], [*prompt, 3], [*prompt, 4, 5, 6]],
        "tree": [[*prompt, *turn, 1], [*prompt, *turn, 2, 3], [*prompt, 9, 9], [7, 7]],
        "many short": [list(range(base, base + n)) for base, n in ((1, 9), (50, 10), (100, 10), (150, 20), (200, 11), (250, 22))],
        "groups of short": [[*range(base, base + 10), *range(n)] for base in (100, 200) for n in (11, 12, 12, 13, 30)],
        "long": [list(range(300)), [*range(280), 5, 5, 5]],
        "longer": [list(range(530)), [*range(520), 5, 5, 5]],
    }


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, reach: list[int]) -> torch.Tensor:
    k, v = (x.repeat_interleave(H // K, 1) for x in (k, v))
    scores = (q @ k.transpose(-1, -2)) * D**-0.5
    return scores.masked_fill(~visible(reach, q.device), -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize("name", trees())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_output_and_gradients(name: str, dtype: torch.dtype, tolerance: float) -> None:
    _, _, reach, _ = pack_tokens(trees()[name], min_shared=3)
    generator = torch.Generator().manual_seed(0)
    q, k, v, g = (torch.randn(1, heads, len(reach), D, generator=generator).to(dtype) for heads in (H, K, K, H))
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    out = SharedAttention.apply(*leaves, blocks(reach), D**-0.5)
    grads = torch.autograd.grad(out, leaves, g)
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = dense(*exact, reach)
    exact_grads = torch.autograd.grad(expected, exact, g.double())
    for got, wanted in zip((out, *grads), (expected, *exact_grads), strict=True):
        assert ((got.double() - wanted).norm() / wanted.norm()).item() < tolerance


def test_runs_of_similar_length_share_a_batch() -> None:
    _, _, reach, _ = pack_tokens(trees()["many short"], min_shared=3)
    plan = blocks(reach)
    assert [tuple(bucket.where.shape) for bucket in plan.buckets] == [(4, 11), (2, 22)] and not plan.alone
    assert sorted(int(i) for bucket in plan.buckets for i in bucket.where.flatten()[bucket.real]) == list(range(len(reach)))
    _, _, reach, _ = pack_tokens([list(range(600))], min_shared=3)
    assert not blocks(reach).buckets and blocks(reach).alone == [slice(0, 600)]


def test_the_plan_for_other_devices_is_the_same_relation() -> None:
    _, _, reach, _ = pack_tokens(trees()["tree"], min_shared=3)
    q, k, v = (torch.randn(1, heads, len(reach), D) for heads in (H, K, K))
    plan = Packed(reach)
    cpu = plan.attend(0, q, k, v, D**-0.5)
    plan.device, plan.mask = torch.device("meta"), visible(reach, torch.device("cpu"))
    assert torch.allclose(plan.attend(0, q, k, v, D**-0.5), cpu, atol=1e-5)
