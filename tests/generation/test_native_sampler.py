"""Inverse-CDF sampling, against hand-worked cases and expected frequencies."""

from __future__ import annotations

import math
import random

import pytest
import torch

from posttrain.core.types import Sampling
from posttrain.generation.native.sampler import CHUNK, NUCLEUS_CANDIDATES, Sampler, draw, most_likely


def test_draw_inverts_the_cumulative_distribution() -> None:
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]]).expand(6, -1)
    uniforms = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2**-53], dtype=torch.float64)
    assert draw(probabilities, uniforms).tolist() == [1, 1, 3, 3, 4, 4]


def test_draw_finds_the_right_chunk_and_never_a_token_without_mass() -> None:
    probabilities = torch.zeros(4, 5 * CHUNK + 3)
    probabilities[:, CHUNK + 7] = 0.3
    probabilities[:, 5 * CHUNK + 1] = 0.1
    uniforms = torch.tensor([0.0, 0.7499, 0.7501, 1 - 2**-53], dtype=torch.float64)
    assert draw(probabilities, uniforms).tolist() == [CHUNK + 7, CHUNK + 7, 5 * CHUNK + 1, 5 * CHUNK + 1]


def test_draw_agrees_with_one_long_cumulative_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.softmax(3 * torch.randn(200, 1000, generator=generator), -1)
    uniforms = torch.rand(200, generator=generator, dtype=torch.float64)
    sums = probabilities.double().cumsum(-1)
    expected = torch.searchsorted(sums, (uniforms * sums[:, -1])[:, None], right=True)[:, 0]
    assert torch.equal(draw(probabilities, uniforms), expected)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.4, 0.3, 0.2, 0.1]),
        (Sampling(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        (Sampling(top_k=2), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(top_p=0.75), [4 / 9, 3 / 9, 2 / 9, 0]),
        (Sampling(top_k=3, top_p=0.5), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(top_p=0.01), [1, 0, 0, 0]),
        (Sampling(temperature=0), [1, 0, 0, 0]),
    ],
)
def test_frequencies_are_those_asked_for(sampling: Sampling, expected: list[float]) -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    count, stream = 4000, random.Random(5)
    tokens, logprobs = Sampler()(logits.expand(count, -1), [sampling] * count, [stream.random() for _ in range(count)])
    seen = [tokens.count(token) for token in range(4)]
    assert all(n == 0 for n, share in zip(seen, expected, strict=True) if share == 0)
    chi_square = sum((n - count * share) ** 2 / (count * share) for n, share in zip(seen, expected, strict=True) if share)
    assert chi_square < 16.3  # 3 degrees of freedom, one in a thousand
    full = torch.log_softmax(logits / (sampling.temperature or 1.0), -1).tolist()
    assert all(math.isclose(logprob, full[token], abs_tol=1e-6) for token, logprob in zip(tokens, logprobs, strict=True))


def test_rows_of_one_batch_keep_their_own_settings() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().expand(4, -1)
    samplings = [Sampling(temperature=0), Sampling(top_k=1), Sampling(), Sampling(temperature=2.0)]
    tokens, logprobs = Sampler()(logits, samplings, [0.05] * 4)
    assert tokens == [3, 3, 0, 0]
    assert logprobs[0] == pytest.approx(math.log(0.4), abs=1e-6)
    assert logprobs[3] == pytest.approx(math.log(math.sqrt(0.1) / sum(map(math.sqrt, (0.1, 0.2, 0.3, 0.4)))), abs=1e-6)


def test_a_flat_nucleus_wider_than_the_candidates_is_exact() -> None:
    vocabulary = 4 * NUCLEUS_CANDIDATES
    kept = most_likely(torch.full((2, vocabulary), 1 / vocabulary), [0, 5], [0.5, 1.0])
    assert kept.gt(0).sum(-1).tolist() == [vocabulary // 2, 5]
