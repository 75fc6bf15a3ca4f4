"""Reward models as graders ask them: in batches, the same whoever asks beside, and refused when they are the wrong ones."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from posttrain.api import composite
from posttrain.cli import main
from posttrain.core.config import LoraConfig, MathGrader, RewardModelGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Grade, Message, Rollout, Sampling, Task
from posttrain.models.load import load
from posttrain.models.reward_model import RewardModel, load_reward_model, new_reward_model, save_reward_model
from posttrain.models.toy import make_toy
from posttrain.stages.rewards import BatchedRewards, require_alive, scorers_of

TALKS = [(Message("user", "hi"), Message("assistant", "hello " * i)) for i in range(1, 9)]


@pytest.fixture
def path(toy_path: Path, tmp_path: Path) -> Path:
    """Two heads on the toy model, with their scale."""
    reward = new_reward_model(load(str(toy_path), dtype=torch.float32), LoraConfig(rank=2), members=2, ensemble="heads", seed=1)
    reward.mean, reward.std = [1.0, 2.0], [4.0, 5.0]
    save_reward_model(reward, tmp_path / "rm", base=".")
    return tmp_path / "rm"


class Counting(RewardModel):
    """Remembers how many rows each forward had."""

    asked: list[int]

    def score(self, rows: Sequence[Sequence[int]], *, budget: int) -> torch.Tensor:
        self.asked.append(len(rows))
        return super().score(rows, budget=budget)


def counting(path: Path) -> Counting:
    reward = Counting(**vars(load_reward_model(str(path))))
    reward.asked = []
    return reward


def ask(scorer: BatchedRewards, talks: Sequence[tuple[Message, ...]], *, normalise: bool = False) -> list[Sequence[float]]:
    async def every() -> list[Sequence[float]]:
        return await asyncio.gather(*(scorer.rewards(talk, normalise=normalise) for talk in talks))

    return asyncio.run(every())


def test_what_is_asked_together_is_scored_together(path: Path) -> None:
    reward = counting(path)
    together = ask(BatchedRewards(reward, "rm"), TALKS)
    assert reward.asked == [len(TALKS)]
    alone = [ask(BatchedRewards(reward, "rm"), [talk])[0] for talk in TALKS]
    for a, b in zip(together, alone, strict=True):
        assert a == pytest.approx(b, abs=1e-5) and len(a) == 2


def test_answers_that_arrive_while_others_are_written_join_the_batch(path: Path) -> None:
    """As the sampler gives them: one now, one some turns of the loop later. The make-up of batches is the same every time."""

    async def arriving(scorer: BatchedRewards) -> None:
        async def later(turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await scorer.rewards(TALKS[turns % 8], normalise=False)

        await asyncio.gather(*(later(turns) for turns in (0, 3, 20, 50, 70, 200, 203)))

    found = []
    for _ in range(3):
        reward = counting(path)
        asyncio.run(arriving(BatchedRewards(reward, "rm")))
        found.append(reward.asked)
    assert found == [[5, 2]] * 3


def test_a_full_forward_does_not_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posttrain.stages.rewards.BUDGET", 60)
    monkeypatch.setattr("posttrain.stages.rewards.QUIET", 10**9)
    reward = counting(path)
    assert len(ask(BatchedRewards(reward, "rm"), TALKS)) == 8  # all of them fill a forward at once
    assert reward.asked == [8]


def test_normalised_by_each_members_own_scale(path: Path) -> None:
    scorer = BatchedRewards(load_reward_model(str(path)), "rm")
    raw, normal = ask(scorer, TALKS[:1])[0], ask(scorer, TALKS[:1], normalise=True)[0]
    assert normal == pytest.approx([(raw[0] - 1) / 4, (raw[1] - 2) / 5])


def test_an_answer_longer_than_the_context_is_refused_and_the_others_are_not(path: Path) -> None:
    scorer = BatchedRewards(load_reward_model(str(path)), "rm")

    async def both() -> list[object]:
        talks = [TALKS[0], (Message("user", "hi"), Message("assistant", "x" * 2000))]
        return await asyncio.gather(*(scorer.rewards(talk, normalise=False) for talk in talks), return_exceptions=True)

    good, bad = asyncio.run(both())
    assert isinstance(good, list) and isinstance(bad, UserError) and "context is 1024" in str(bad)


def test_what_breaks_in_a_forward_reaches_every_caller(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = BatchedRewards(load_reward_model(str(path)), "rm")

    def fail(rows: object, *, budget: int) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(scorer.reward, "score", fail)

    async def every() -> list[object]:
        return await asyncio.gather(*(scorer.rewards(talk, normalise=False) for talk in TALKS), return_exceptions=True)

    assert [str(error) for error in asyncio.run(every())] == ["out of memory"] * 8


def grader(path: Path, **settings: object) -> RewardModelGrader:
    return RewardModelGrader(model=str(path), **settings)  # type: ignore[arg-type]


def test_each_model_is_loaded_once_and_others_need_none(path: Path) -> None:
    found = scorers_of([grader(path), MathGrader(), grader(path, combine="min")], {})
    assert list(found) == [str(path)]
    assert scorers_of([MathGrader()], {}) == {}


def test_a_model_of_another_tokenizer_is_refused(path: Path, tmp_path: Path) -> None:
    other = make_toy(tmp_path / "other", size="tiny")
    tokenizer = load(str(other)).tokenizer
    assert scorers_of([grader(path)], {}, tokenizer)
    tokenizer.add_tokens(["another"])
    with pytest.raises(UserError, match="another tokenizer than the model it would judge: token"):
        scorers_of([grader(path)], {}, tokenizer)


def test_a_model_that_says_nothing_is_refused(path: Path, toy_path: Path) -> None:
    """Its head is not 0, but its last norm is: every answer gets the same score."""
    reward = load_reward_model(str(path))
    reward.members[0].model.get_decoder().norm.weight.data.zero_()
    with pytest.raises(UserError, match="dead"):
        require_alive(reward, "rm")
    reward.members[0].model.get_decoder().norm.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="broken"):
        require_alive(reward, "rm")


def test_a_model_from_elsewhere_has_no_scale(path: Path) -> None:
    (path / "reward_model.json").unlink()
    (path / "heads.safetensors").unlink()
    assert scorers_of([grader(path, normalise=False)], {})
    with pytest.raises(UserError, match="no mean and standard deviation") as refused:
        scorers_of([grader(path)], {})
    assert "normalise: false" in refused.value.fix


def test_a_member_without_spread_has_no_scale(path: Path) -> None:
    about = json.loads((path / "reward_model.json").read_text())
    (path / "reward_model.json").write_text(json.dumps({**about, "std": [1.0, 0.0]}))
    with pytest.raises(UserError, match="no mean and standard deviation"):
        scorers_of([grader(path)], {})


@pytest.mark.parametrize("file", ["heads.safetensors", "model.safetensors"])
def test_a_torn_model_is_an_error_and_not_zeros(path: Path, file: str) -> None:
    shutil.copyfile(path / "config.json", path / file)
    with pytest.raises(UserError, match="damaged"):
        scorers_of([grader(path)], {})


def test_in_python_and_on_the_command_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same score, a number without a verdict."""
    config = grader(path)

    async def graded() -> Grade:
        task = Task("t", (Message("user", "?"),))
        async with composite([config]) as judge:
            return await judge(task, Rollout(task, 0, (*task.messages, Message("assistant", "hello")), (), Sampling()))

    grade = asyncio.run(graded())
    assert grade.passed is None and grade.parts.keys() == {"reward_model", "reward_model/std"}
    with pytest.raises(SystemExit) as ended:
        main(["grade", "reward_model", "--set", f"model={path}", "--answer", "hello", "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(grade.score)
