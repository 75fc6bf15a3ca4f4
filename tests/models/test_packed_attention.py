"""The block attention and its backward against a dense masked softmax in fp64."""

from __future__ import annotations

import pytest
import torch

from posttrain.models.packed_attention import Packed, SharedAttention, blocks, visible
from posttrain.models.packing import pack_tokens
from posttrain.models.runs import later, runs_of
from posttrain.models.shapes import rounded_rows, rounded_tokens, rounded_width

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
    _, _, reach, _ = pack_tokens([list(range(base, base + n)) for base, n in ((0, 300), (400, 290), (800, 40))], min_shared=3)
    plan = blocks(reach)
    assert [tuple(bucket.queries_RT.shape) for bucket in plan.buckets] == [(2, 304), (1, 48)] and not plan.alone
    assert sorted(int(i) for bucket in plan.buckets for i in bucket.queries_RT[bucket.real_RT]) == list(range(len(reach)))
    _, _, reach, _ = pack_tokens([list(range(600))], min_shared=3)
    assert not blocks(reach).buckets and blocks(reach).alone == [slice(0, 600)]


def test_a_run_sees_its_ancestors_and_neighbours_share_a_block() -> None:
    _, _, reach, _ = pack_tokens([[1, 2, 3, 4, 5], [1, 2, 3, 6], [1, 2, 7], [8]], min_shared=1)
    runs = runs_of(reach)
    assert [(run.own, run.before) for run in runs] == [
        (slice(0, 2), ()),
        (slice(2, 3), (slice(0, 2),)),
        (slice(3, 5), (slice(0, 3),)),
        (slice(5, 6), (slice(0, 3),)),
        (slice(6, 7), (slice(0, 2),)),
        (slice(7, 8), ()),
    ]
    assert later(runs[2:4]) == [(slice(3, 6), slice(0, 3))]


def test_shapes_are_few() -> None:
    """Rounded sizes recur: lengths from 1,100 to 1,400 give ten shapes, and never much more work."""
    assert len({rounded_tokens(n) for n in range(1100, 1400)}) == 10
    assert all(n <= rounded_tokens(n) <= max(n + 15, n * 33 / 32) for n in range(1, 5000))
    assert [rounded_rows(n) for n in (1, 2, 3, 7, 9, 13, 17, 33)] == [1, 2, 3, 7, 10, 14, 20, 40]
    assert [rounded_width(n) for n in (0, 1, 16, 17)] == [0, 16, 16, 32]


def test_the_plan_for_other_devices_is_the_same_relation() -> None:
    _, _, reach, _ = pack_tokens(trees()["tree"], min_shared=3)
    q, k, v = (torch.randn(1, heads, len(reach), D) for heads in (H, K, K))
    plan = Packed(reach)
    cpu = plan.attend(0, q, k, v, D**-0.5)
    plan.device, plan.mask = torch.device("meta"), visible(reach, torch.device("cpu"))
    assert torch.allclose(plan.attend(0, q, k, v, D**-0.5), cpu, atol=1e-5)
