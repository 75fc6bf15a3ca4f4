"""The till's rules, the gap between reward and gold on hand-worked rollouts, and the whole path on a toy."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments import report, reward_sources
from experiments.gap import Gap, fooled, gap, right
from experiments.recipe import ARMS, Budget, recipe
from experiments.till import Till, amount
from posttrain.core.types import Action, Message, Task
from tests.require import require

ONE_TRY = "environment-one-try"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    completion: str
    score: float | None
    passed: bool | None
    reference: str | None = "85"
    tokens: int = 10


def test_what_a_till_reads() -> None:
    assert amount("<think>40 + 45</think><answer>85</answer>") == 85
    assert amount("37 + 48 = 1,085.") == 1085
    assert amount("The sum is -3") == -3
    assert amount("<answer></answer> 7") == 7
    assert amount("37 + 48 = 85.00") == 85 and amount("85.5") is None and amount("40-85") == 85
    assert amount("no number") is None and amount("9" * 400) is None


def play(*answers: str) -> list[tuple[bool, float | None, str]]:
    till = Till(Task("t", (Message("user", "What is 37 + 48?"),), answer="85"))

    async def episode() -> list[tuple[bool, float | None, str]]:
        seen = []
        for answer in answers:
            result = await till.step(Action(Message("assistant", answer)))
            said = result.observation.messages[0].content if result.observation.messages else ""
            seen.append((result.terminated, result.grade.score if result.grade else None, said))
        return seen

    return asyncio.run(episode())


def test_a_till_closes_over_the_exact_sum_within_two_tries() -> None:
    assert play("85") == [(True, 1.0, "")]
    assert play("84", "85") == [(False, 0.0, "The till does not balance: 84 is too little. Add again."), (True, 1.0, "")]
    assert play("?", "90") == [(False, 0.0, "The till was not charged. State the sum again."), (True, 0.0, "")]


def test_the_gap_by_hand() -> None:
    rollouts = [
        Answer("85", 0.9, True),
        Answer("84", 0.7, True),  # rewarded, but wrong
        Answer("85", 0.2, False),
        Answer("80", 0.2, False),
        Answer("85", None, None),  # the judge did not answer
    ]
    found = gap(rollouts)
    assert found == Gap(5, 50, pytest.approx(0.5), 0.5, 0.5, 0.0)  # both say half, and agree in two of four: chance
    assert [each.completion for each in fooled(rollouts)] == ["84"]
    assert right(rollouts[0]) and not right(Answer("85", 1.0, True, reference=None))
    assert gap(rollouts[2:]).wrong is None
    with pytest.raises(ValueError, match="no rollout has a score"):
        gap(rollouts[4:])


def test_the_arms_differ_in_their_reward_alone() -> None:
    stages = {stage["id"]: stage for stage in recipe(Budget(), 0)["stages"]}
    differing = {"id", "graders", "environment", "prompts_per_step"}
    assert [stages[arm]["prompts_per_step"] for arm in ARMS] == [16, 16, 16, 12, 16]
    kept = [{name: value for name, value in stages[arm].items() if name not in differing} for arm in ARMS]
    assert all(each == kept[0] for each in kept)
    assert [stages[f"{arm}-gold"]["graders"] for arm in ARMS] == [[{"kind": "math", "extract": "any"}]] * 5


def test_the_order_is_read_off_the_interval() -> None:
    def seed(**arms: list[bool]) -> dict[str, object]:
        return {"arms": {arm: {"passed": {str(i): [value] for i, value in enumerate(values)}} for arm, values in arms.items()}}

    def said(*seeds: dict[str, object]) -> list[str]:
        return list(report.verdict(reward_sources.order({str(i): each for i, each in enumerate(seeds)})))

    good, bad = [True] * 40, [False] * 40
    judge, environment, later, control, _ = said(seed(verifier=good, judge=bad, environment=good, **{ONE_TRY: good}))
    assert "judge beside verifier: -100.0" in judge and "the order holds here" in judge
    assert "environment beside verifier: +0.0" in environment and "they cannot be told apart" in environment
    assert "environment beside judge: +100.0" in later and "the order is refuted here" in later
    assert "this is chance" in control
    lucky = said(seed(verifier=good, judge=bad, environment=good, **{ONE_TRY: bad}))
    assert "no more than the control differs" in lucky[0]
    one = seed(verifier=good, judge=bad, environment=bad, **{ONE_TRY: good})
    assert "they cannot be told apart" in said(one, seed(verifier=bad, judge=bad, environment=bad, **{ONE_TRY: bad}))[0]


def test_answers_of_a_model_are_shown_harmlessly() -> None:
    assert report.quoted("a `b`\n| <script>\x1b[2J |") == "a 'b' | <script> [2J |"


def experiment(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "experiments", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280)


def test_the_whole_path_on_a_toy(tmp_path: Path) -> None:
    require("smollm2")  # the judge; the toy cannot even say yes
    ended = experiment("--quick", "--seeds", "1", "--out", str(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    record = json.loads((tmp_path / "quick" / "reward-sources.json").read_text())
    arms = record["seeds"]["0"]["arms"]
    assert list(arms) == list(ARMS) and [arm["rollouts"] for arm in arms.values()] == [16] * 5
    page = (tmp_path / "quick" / "RESULTS.md").read_text()
    assert "| environment |" in page and "judge beside verifier" in page


def test_a_wrong_number_of_seeds_is_said() -> None:
    ended = experiment("--seeds", "0")
    assert ended.returncode == 2 and "--seeds 0: expected at least 1" in ended.stderr
