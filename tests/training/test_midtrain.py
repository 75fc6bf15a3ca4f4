"""Training on raw text learns it; documents do not see each other; memory and copies change nothing."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from posttrain.core.config import MidtrainConfig, TextSource
from posttrain.core.types import ints
from posttrain.data.sequences import pieces, sequences
from posttrain.models.load import load
from posttrain.training.driver import Step
from posttrain.training.midtrain import midtrain
from posttrain.training.policy import Policy
from posttrain.training.sft import Encoded, row_losses, validation_loss

END = 256


class Sequences:
    def __init__(self, documents: Sequence[Sequence[int]], length: int = 64, *, cross: bool = False) -> None:
        self.rows = list(sequences(documents, length, END, cross=cross))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[array[int], array[int]]:
        return self.rows[index]


def config(**changes: object) -> MidtrainConfig:
    settings = {"data": [TextSource(source="x")], "lora": None, "learning_rate": 1e-2, "steps": 3, "batch_size": 2}
    return MidtrainConfig(**{**settings, "sequence_length": 64, **changes})  # type: ignore[arg-type]


def fresh(toy_path: Path, settings: MidtrainConfig) -> Policy:
    return Policy(load(str(toy_path), dtype=torch.float32), settings, total_steps=settings.steps or 1, seed=0)


def train(toy_path: Path, data: Sequences, **changes: object) -> tuple[Policy, list[Step]]:
    settings = config(**changes)
    policy = fresh(toy_path, settings)

    async def gather() -> list[Step]:
        return [step async for step in midtrain(policy, data, pieces, settings, seed=0, start=0)]

    return policy, asyncio.run(gather())


def documents(count: int = 12) -> list[list[int]]:
    return [[97 + (start + i) % 26 for i in range(5 + 7 * (start % 5))] for start in range(count)]


def test_it_learns_the_text_and_other_documents_of_its_kind(toy_path: Path) -> None:
    held_out = [Encoded(ints([END, *(97 + (13 + i) % 26 for i in range(30))]), array("b", [0] + [1] * 30))]
    settings = config(steps=40)
    before = validation_loss(fresh(toy_path, settings), held_out, 2048)
    policy, steps = train(toy_path, Sequences(documents(26)), steps=40)
    assert steps[0].metrics["loss"] > 5 and steps[-1].metrics["loss"] < 1.5
    assert validation_loss(policy, held_out, 2048) < before - 3


def test_every_token_counts_the_same(toy_path: Path) -> None:
    """The first step's loss is the mean over all trained tokens of all sequences, not of documents or sequences."""
    data = Sequences(documents(4))
    assert len(data) == 2
    rows = [Encoded(*piece) for i in range(2) for piece in pieces(*data[i])]
    losses = row_losses(fresh(toy_path, config()), rows, 2048)
    _, steps = train(toy_path, data, steps=1)
    tokens = sum(count for _, count in losses)
    assert tokens == sum(len(document) + 1 for document in documents(4)) == steps[0].metrics["tokens/trained"]
    assert steps[0].metrics["loss"] == pytest.approx(sum(loss for loss, _ in losses) / tokens, rel=1e-5)
    assert len({round(loss / count, 4) for loss, count in losses}) > 1


def test_a_document_is_read_as_if_it_stood_alone_unless_asked_otherwise(toy_path: Path) -> None:
    """The loss on the second document, with another first one before it."""
    second = [100, 101, 102, 103, 104, 105]

    def loss(first: list[int], cross: bool) -> float:
        (sequence,) = sequences([first, second], 64, END, cross=cross)
        rows = [Encoded(*piece) for piece in pieces(*sequence)]
        tokens, mask = rows[-1].tokens, array("b", rows[-1].mask)
        mask[: len(mask) - len(second)] = array("b", bytes(len(mask) - len(second)))  # only the second document's
        packed = [*rows[:-1], Encoded(tokens, mask)]
        return row_losses(fresh(toy_path, config()), packed, 2048)[-1][0]

    one, other = [65] * 20, [200, 30] * 10
    assert loss(one, False) == pytest.approx(loss(other, False), abs=1e-5)
    assert abs(loss(one, True) - loss(other, True)) > 1e-3


def test_a_document_cut_between_sequences_is_learnt_whole(toy_path: Path) -> None:
    data = Sequences([list(range(97, 122)) * 6], 64)
    assert len(data) == 3
    _, steps = train(toy_path, data, steps=1, batch_size=3)
    assert steps[0].metrics["tokens/trained"] == 25 * 6 + 1


def test_micro_batches_do_not_change_the_step(toy_path: Path) -> None:
    """Pieces that begin alike are stored once where they meet in one batch, and apart where they do not."""
    alike = [[97 + i % 26 for i in range(20)] + [start] * 5 for start in range(8)]
    results = []
    for budget in (16, 70, 4096):
        policy, steps = train(toy_path, Sequences(alike, 48), micro_batch_tokens=budget)
        results.append(
            ([s.metrics["loss"] for s in steps], [s.metrics["grad_norm"] for s in steps], next(policy.model.parameters()).detach())
        )
    for losses, norms, weight in results[1:]:
        assert losses == pytest.approx(results[0][0], rel=1e-5)
        assert norms == pytest.approx(results[0][1], rel=1e-3)
        assert torch.allclose(weight, results[0][2], atol=2e-4)


def test_losses_of_rows_do_not_depend_on_how_they_are_batched(toy_path: Path) -> None:
    rows = [Encoded(*piece) for i in range(2) for piece in pieces(*Sequences(documents(4))[i])]
    policy = fresh(toy_path, config())
    whole, apart = (row_losses(policy, rows, budget) for budget in (4096, 8))
    assert [count for _, count in whole] == [count for _, count in apart]
    assert [loss for loss, _ in whole] == pytest.approx([loss for loss, _ in apart], rel=1e-5)
