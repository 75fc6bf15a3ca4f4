"""The preference step: what moves, what must not, and that it learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from posttrain.algorithms.preference import LOSSES
from posttrain.core.config import DpoConfig, PreferenceSource
from posttrain.core.types import Pair
from posttrain.models.load import load
from posttrain.training.dpo import (
    Answer,
    Compared,
    cost,
    dpo,
    kto_divergence,
    mismatch,
    objective,
    packed,
    row_sums,
    train_step,
    without_formatting,
)
from posttrain.training.driver import BrokenStep
from posttrain.training.policy import Policy
from tests.training.helpers import LORA, steps_of

END = 257
PROMPTS = [list(range(60, 80)), list(range(100, 115)), list(range(30, 48))]
ANSWERS = [[[5, 6, 7], [5, 9], [8, 8, 8, 8]], [[3], [4, 4]], [[7, 7, 9], [1, 2]]]
WITH_REFERENCE = [name for name, method in LOSSES.items() if method.reference]


def config_of(**changes: Any) -> DpoConfig:
    settings = {"data": [PreferenceSource(source="x")], "lora": LORA, "learning_rate": 5e-3, "steps": 4, "batch_size": 3}
    return DpoConfig(**{**settings, **changes})


def make(toy_path: Path, config: DpoConfig) -> Policy:
    return Policy(load(str(toy_path), dtype=torch.float32), config, total_steps=6, seed=0)


def answer(prompt: list[int], written: list[int]) -> Answer:
    return Answer([*prompt, *written, END, 10], [0] * len(prompt) + [1] * (len(written) + 1) + [0])


def elements(*, labelled: bool = False) -> list[Compared]:
    """Three answers to one prompt, two to the others; the first is the best of each."""
    found = []
    for prompt, written in zip(PROMPTS, ANSWERS, strict=True):
        answers = [answer(prompt, each) for each in written]
        labels = [i == 0 for i in range(len(answers))] if labelled else []
        found.append(Compared(answers, [] if labelled else [Pair(0, i) for i in range(1, len(answers))], labels))
    return found


def referenced(made: Policy, found: Sequence[Compared], *, kto: bool = False) -> list[Compared]:
    """The elements with the policy itself as reference."""

    def score(each: Any) -> torch.Tensor:
        return made.score(each).logprobs_L

    out = []
    for n, each in enumerate(found):
        others = mismatch(each.answers, found[(n + 1) % len(found)].answers) if kto else []
        of_others = row_sums(score, [Compared(others, ())], 4096, made.device)[0] if kto else []
        own = row_sums(score, [each], 4096, made.device)[0]
        out.append(replace(each, reference=own, mismatched=others, mismatched_reference=of_others))
    return out


def prepared(made: Policy, config: DpoConfig, *, labelled: bool = False) -> list[Compared]:
    return referenced(made, elements(labelled=labelled), kto=config.loss == "kto")


def sums(made: Policy, found: Sequence[Compared]) -> list[list[float]]:
    return row_sums(lambda batch: made.score(batch).logprobs_L, found, 4096, made.device)


def gradients(made: Policy) -> dict[str, torch.Tensor]:
    return {name: m.grad.clone() for name, m in made.optimizer.masters.items() if m.grad is not None}


class Stop(Exception):
    pass


def gradients_of(made: Policy, found: Sequence[Compared], config: DpoConfig) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Metrics and gradients of a step that is not taken."""
    kept: dict[str, Any] = {}

    def look(metrics: Any) -> None:
        kept.update(metrics=dict(metrics), gradients=gradients(made))
        made.optimizer.zero_grad()
        raise Stop

    with pytest.raises(Stop):
        train_step(made, found, objective(config), config, 0, look)
    return kept["metrics"], kept["gradients"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("lora", ["lora", "full"])
def test_preferred_answers_gain_on_the_others(toy_path: Path, loss: str, lora: str) -> None:
    config = config_of(loss=loss, **({"lora": None, "learning_rate": 1e-3} if lora == "full" else {}))
    made = make(toy_path, config)
    found = prepared(made, config)
    before = sums(made, found)
    for index in range(3):
        train_step(made, found, objective(config), config, index)
    after = sums(made, found)
    for element, was, now in zip(found, before, after, strict=True):
        for pair in element.pairs:
            assert now[pair.better] - now[pair.worse] > was[pair.better] - was[pair.worse]


@pytest.mark.parametrize("loss", LOSSES)
def test_micro_batches_do_not_change_loss_or_gradients(toy_path: Path, loss: str) -> None:
    results = []
    for budget in (12, 70, 4096):  # smaller than one element, two batches, one
        config = config_of(loss=loss, micro_batch_tokens=budget, nll=None if loss == "kto" else 0.2)
        made = make(toy_path, config)
        found = prepared(made, config)
        with torch.no_grad():  # away from the reference, where KTO's divergence is not 0
            for name, master in made.optimizer.masters.items():
                if "lora_B" in name:
                    master.add_(0.05 * torch.randn(master.shape, generator=torch.Generator().manual_seed(len(name))))
        made.optimizer.write_back()
        results.append(gradients_of(made, found, config))
    (first, of_first), *others = results
    assert first["loss"] != pytest.approx(0)
    for metrics, of_other in others:
        for name, value in first.items():
            assert metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
        for name, gradient in of_first.items():
            torch.testing.assert_close(of_other[name], gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", WITH_REFERENCE)
def test_at_the_reference_nothing_is_preferred(toy_path: Path, loss: str) -> None:
    config = config_of(loss=loss)
    made = make(toy_path, config)
    metrics, _ = gradients_of(made, prepared(made, config), config)
    at_start = {"ipo": 25.0, "kto": 0.5}
    assert metrics["loss"] == pytest.approx(at_start.get(loss, math.log(2)), rel=1e-4)
    assert metrics["rewards/margin"] == pytest.approx(0, abs=1e-4)
    assert metrics["kl/answers"] == pytest.approx(0, abs=1e-5)


def test_every_pair_of_the_batch_counts_the_same(toy_path: Path) -> None:
    """The loss by hand: three elements of two, one and one pairs make a mean over four."""
    config = config_of(beta=0.5)
    made = make(toy_path, config)
    found = [replace(each, reference=[0.1 * i for i in range(len(each.answers))]) for each in prepared(made, config)]
    by_hand = []
    for element, own in zip(found, sums(made, found), strict=True):
        ratio = [p - r for p, r in zip(own, element.reference, strict=True)]
        by_hand += [math.log1p(math.exp(-0.5 * (ratio[p.better] - ratio[p.worse]))) for p in element.pairs]
    metrics, _ = gradients_of(made, found, config)
    assert len(by_hand) == 4 == metrics["pairs"]
    assert metrics["loss"] == pytest.approx(sum(by_hand) / 4, rel=1e-5)


def test_the_chosen_likelihood_is_added_per_token(toy_path: Path) -> None:
    config = config_of(nll=0.2)
    made = make(toy_path, config)
    found = prepared(made, config)
    chosen = [
        (own[p.better], sum(e.answers[p.better].mask)) for e, own in zip(found, sums(made, found), strict=True) for p in e.pairs
    ]
    by_hand = sum(-logprob / length for logprob, length in chosen) / len(chosen)
    metrics, _ = gradients_of(made, found, config)
    assert metrics["loss/nll"] == pytest.approx(by_hand, rel=1e-5)
    assert metrics["loss"] == pytest.approx(math.log(2) + 0.2 * by_hand, rel=1e-5)


def test_an_even_label_pulls_nowhere(toy_path: Path) -> None:
    config = config_of()
    made = make(toy_path, config)
    even = [replace(each, pairs=[replace(p, probability=0.5) for p in each.pairs]) for each in prepared(made, config)]
    _, found = gradients_of(made, even, config)
    assert max(float(g.abs().max()) for g in found.values()) < 1e-7


def test_a_token_that_does_not_count_does_not_matter(toy_path: Path) -> None:
    """The last token of a row is read by none: with its mask at 0 it may be any."""
    config = config_of()
    made = make(toy_path, config)
    found = prepared(made, config)
    other = [replace(each, answers=[replace(a, tokens=[*a.tokens[:-1], 99]) for a in each.answers]) for each in found]
    one, same = gradients_of(made, found, config), gradients_of(made, other, config)
    assert one[0]["loss"] == pytest.approx(same[0]["loss"], rel=1e-6)
    for name, gradient in one[1].items():
        torch.testing.assert_close(same[1][name], gradient, rtol=1e-5, atol=1e-8)
    counted = [replace(each, answers=[replace(a, mask=[*a.mask[:-1], 1]) for a in each.answers]) for each in found]
    assert gradients_of(made, counted, config)[0]["loss"] != pytest.approx(one[0]["loss"], rel=1e-3)


def test_formatting_tokens_are_read_and_not_counted() -> None:
    plain = Answer([1, 2, 5, END, 10], [0, 0, 1, 1, 0], [-0.5, -0.7])
    masked = without_formatting(plain, frozenset([END]))
    assert list(masked.mask) == [0, 0, 1, 0, 0] and list(masked.sampled) == [-0.5]
    assert masked.tokens == plain.tokens
    only_end = Answer([1, 2, END], [0, 0, 1])
    assert without_formatting(only_end, frozenset([END])) == only_end  # nothing else would be left


def test_the_prompt_is_packed_once() -> None:
    found = elements()[0]
    batch = packed([found], torch.device("cpu"))
    assert len(batch.tokens_N) <= cost(found.answers) < sum(len(a.tokens) for a in found.answers)


def test_kto_learns_from_single_answers(toy_path: Path) -> None:
    config = config_of(loss="kto")
    made = make(toy_path, config)
    found = prepared(made, config, labelled=True)
    before = sums(made, found)
    for index in range(3):
        train_step(made, found, objective(config), config, index)
    change = [[n - b for n, b in zip(now, was, strict=True)] for now, was in zip(sums(made, found), before, strict=True)]
    assert all(each[0] > max(each[1:]) for each in change)


def test_the_divergence_is_of_answers_to_other_prompts(toy_path: Path) -> None:
    config = config_of(loss="kto")
    made = make(toy_path, config)
    found = prepared(made, config)
    assert float(kto_divergence(made, found, objective(config), 4096)) == pytest.approx(0, abs=1e-5)
    lower = [replace(each, mismatched_reference=[v - 2.0 for v in each.mismatched_reference]) for each in found]
    assert float(kto_divergence(made, lower, objective(config), 30)) == pytest.approx(2.0, rel=1e-4)
    higher = [replace(each, mismatched_reference=[v + 2.0 for v in each.mismatched_reference]) for each in found]
    assert float(kto_divergence(made, higher, objective(config), 30)) == 0


def test_a_mismatched_answer_keeps_its_own_tokens_and_the_other_prompt() -> None:
    made = mismatch([answer([1, 2, 3], [9])] * 3, [answer([4, 5], [7, 7]), answer([4, 5], [8])])
    assert [list(each.tokens) for each in made] == [[1, 2, 3, 7, 7, END, 10], [1, 2, 3, 8, END, 10], [1, 2, 3, 7, 7, END, 10]]
    assert list(made[0].mask) == [0, 0, 0, 1, 1, 1, 0]


def test_a_loss_that_is_no_number_changes_nothing(toy_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of()
    made = make(toy_path, config)
    found = prepared(made, config)
    before = {name: value.clone() for name, value in made.optimizer.masters.items()}
    monkeypatch.setattr("posttrain.training.dpo.fault", lambda point: point == "step:loss")
    with pytest.raises(BrokenStep) as broken:
        train_step(made, found, objective(config), config, 0)
    assert broken.value.batch is not None
    assert all(torch.equal(value, before[name]) for name, value in made.optimizer.masters.items())


def polite(count: int) -> list[Compared]:
    """Answers that begin with 5 are preferred to those that begin with 6, whatever was asked."""
    found = []
    for number in range(count):
        prompt, rest = [20, 21, 22, 23, 24, 25, 26, 27, 40 + number], 60 + number
        found.append(Compared([answer(prompt, [5, rest]), answer(prompt, [6, rest])], [Pair(0, 1)]))
    return found


@pytest.mark.parametrize("loss", ["dpo", "kto", "simpo"])
def test_it_learns_what_is_preferred(toy_path: Path, loss: str) -> None:
    config = config_of(loss=loss, steps=30, batch_size=8, learning_rate=2e-2, validate_every=30)
    made = make(toy_path, config)
    data = referenced(made, polite(16), kto=loss == "kto")
    train, held_out = list(range(12)), list(range(12, 16))
    steps = steps_of(dpo(made, data, train, held_out, config, seed=1, start=0))
    assert steps[-1].metrics["accuracy"] == 1
    assert steps[-1].metrics["accuracy/validation"] == 1
    assert steps[-1].metrics["rewards/margin"] > steps[0].metrics["rewards/margin"]
    assert "accuracy/validation" not in steps[0].metrics


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gamma": 0.5}, "gamma is 0.5, which only simpo read"),
        ({"loss": "cdpo", "label_smoothing": 0.5}, "label_smoothing is 0.5"),
        ({"loss": "kto", "nll": 0.2}, "nll is 0.2"),
        ({"loss": "kto", "batch_size": 1}, "needs at least 2"),
        ({"beta": 0.0}, "beta is 0.0"),
        ({"data": []}, "data is empty"),
        ({"validation": 1.0}, "validation is 1.0"),
    ],
)
def test_settings_that_cannot_be_meant(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config_of(**changes)


def test_every_setting_of_a_loss_is_one_of_the_stage() -> None:
    """And what a loss does not read is refused: core/config knows which by a table of its own."""
    from posttrain.core.config.preference import READ_BY, PairLoss

    for name, method in LOSSES.items():
        optional = {setting for setting, losses in READ_BY.items() if name in losses}
        assert set(method.settings) - {"beta"} == optional
        assert set(objective(PairLoss(loss=name)).settings) == set(method.settings)  # type: ignore[arg-type]
