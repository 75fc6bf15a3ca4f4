"""gymnasium, textarena and reasoning-gym, the real packages: played to the end, seeded, and refused where they cannot work."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from require import require

from posttrain.core.config import GymnasiumEnvironment, ReasoningGymEnvironment, TextArenaEnvironment
from posttrain.core.errors import UserError
from posttrain.core.types import Action, Grade, Message, Task, ToolCall
from posttrain.environments import adapters

Policy = Callable[[str, int], "str | dict[str, Any]"]
"""What was shown, and the number of the turn -> a text, or the arguments of `act`."""


def one(config: Any, split: str = "train") -> Task:
    return adapters.tasks(config, split=split, count=1, seed=0)[0]


def drawn(config: Any, split: str, count: int) -> list[Task]:
    return adapters.tasks(config, split=split, count=count, seed=0)


def play(config: Any, task: Task, policy: Policy, turns: int = 60) -> tuple[list[str], Any]:
    """All that was shown, and the last step's result."""

    async def episode() -> tuple[list[str], Any]:
        environment = adapters.factory(config)(task)
        try:
            shown = [(await environment.reset(task)).messages[-1].content]
            result = None
            for turn in range(turns):
                said = policy(shown[-1], turn)
                calls = () if isinstance(said, str) else (ToolCall("act", said),)
                result = await environment.step(
                    Action(Message("assistant", said if isinstance(said, str) else "", tool_calls=calls))
                )
                shown += [message.content for message in result.observation.messages]
                if result.terminated or result.truncated:
                    break
            return shown, result
        finally:
            await environment.close()

    return asyncio.run(episode())


# ------------------------------------------------------------------------------------------------ gymnasium

LAKE = GymnasiumEnvironment(
    id="FrozenLake-v1", options={"is_slippery": False}, actions=["left", "down", "right", "up"], render=True, success=1.0
)


def to_the_goal() -> list[str]:
    """The shortest way over FrozenLake's 4x4 map without a hole, found here by breadth-first search."""
    lake = ["SFFF", "FHFH", "FFFH", "HFFG"]
    ways = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}
    waiting, seen = deque([((0, 0), [])]), {(0, 0)}
    while waiting:
        (row, column), path = waiting.popleft()
        if lake[row][column] == "G":
            return path
        for name, (down, right) in ways.items():
            there = (row + down, column + right)
            if there not in seen and 0 <= there[0] < 4 and 0 <= there[1] < 4 and lake[there[0]][there[1]] != "H":
                seen.add(there)
                waiting.append((there, [*path, name]))  # type: ignore[arg-type]
    raise AssertionError("no way")


def test_gymnasium_frozen_lake_is_crossed_and_a_hole_is_a_fail() -> None:
    require("gymnasium")
    task = one(LAKE)
    path = to_the_goal()
    shown, last = play(LAKE, task, lambda text, turn: {"action": path[turn]})
    assert last.terminated and not last.truncated and last.grade.score == 1 and last.grade.passed and "[S]FFF" in shown[0]
    assert shown[-1].endswith("HFF[G]\nreward 1")
    _, sunk = play(LAKE, task, lambda text, turn: {"action": ["right", "down"][turn]})
    assert sunk.terminated and sunk.grade.score == 0 and sunk.grade.passed is False


def test_gymnasium_mistakes_do_not_move_the_world_and_only_the_first_call_counts() -> None:
    require("gymnasium")
    task = one(LAKE)

    async def blunder() -> tuple[list[str], str]:
        environment = adapters.factory(LAKE)(task)
        before = (await environment.reset(task)).messages[-1].content
        said = [
            Message("assistant", "I go right."),
            Message("assistant", "<tool_call>{oops"),
            Message("assistant", "", tool_calls=(ToolCall("act", {"action": "east"}),)),
            Message("assistant", "", tool_calls=(ToolCall("act", {"action": 2}),)),
            Message("assistant", "", tool_calls=(ToolCall("fly", {"action": "left"}),)),
        ]
        told = [(await environment.step(Action(message))).observation.messages[0].content for message in said]
        twice = (ToolCall("act", {"action": "left"}), ToolCall("act", {"action": "right"}))
        both = (await environment.step(Action(Message("assistant", "", tool_calls=twice)))).observation
        await environment.close()
        assert len(both.messages) == 1 and "only the first call" in both.messages[0].content
        assert before.endswith("FFFH\nHFFG")
        return told, both.messages[0].content

    told, _ = asyncio.run(blunder())
    assert all(text.startswith("error: ") for text in told), told
    assert "actions: left, down, right, up" in told[2]


def test_gymnasium_is_fixed_by_its_seed_and_truncation_is_not_termination() -> None:
    require("gymnasium")
    blackjack = GymnasiumEnvironment(id="Blackjack-v1")
    first, second = drawn(blackjack, "train", 2)
    assert (
        play(blackjack, first, lambda text, turn: {"action": 0})[0] == play(blackjack, first, lambda text, turn: {"action": 0})[0]
    )
    deals = {play(blackjack, task, lambda text, turn: {"action": 0})[0][0] for task in drawn(blackjack, "test", 8)}
    assert len(deals) > 3 and first.metadata["seed"] != second.metadata["seed"]
    _, walked = play(LAKE, one(LAKE), lambda text, turn: {"action": "left"}, turns=200)
    assert walked.truncated and not walked.terminated, "FrozenLake's own limit of 100 steps"


def test_train_and_test_seeds_are_apart() -> None:
    require("gymnasium")
    train, test = ({task.metadata["seed"] for task in drawn(LAKE, split, 300)} for split in ("train", "test"))
    assert len(train) == len(test) == 300 and not train & test


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"id": "NoSuchWorld-v1"}, "cannot make"),
        ({"id": "Pendulum-v1"}, "action space"),
        ({"id": "FrozenLake-v1", "actions": ["left"]}, "names 1 actions"),
        ({"id": "FrozenLake-v1", "options": {"icy": True}}, "cannot make"),
        ({"id": "CartPole-v1", "render": True}, "draws no text"),
    ],
)
def test_gymnasium_refuses_what_a_model_cannot_play(settings: dict[str, Any], told: str) -> None:
    require("gymnasium")
    with pytest.raises(UserError, match=told) as caught:
        adapters.factory(GymnasiumEnvironment(**settings))
    assert caught.value.exit_code == 2 and caught.value.fix


# ------------------------------------------------------------------------------------------------ textarena


class Halving:
    """Guess the middle of what is left."""

    def __init__(self) -> None:
        self.low, self.high, self.guess = 1, 20, 0

    def __call__(self, text: str, turn: int) -> str:
        if "higher" in text and turn:
            self.low = self.guess + 1
        elif "lower" in text and turn:
            self.high = self.guess - 1
        self.guess = (self.low + self.high) // 2
        return f"[{self.guess}]"


def test_textarena_a_number_is_guessed_and_giving_up_is_no_win() -> None:
    require("textarena")
    config = TextArenaEnvironment(game="GuessTheNumber-v0")
    for task in drawn(config, "test", 4):
        shown, last = play(config, task, Halving())
        assert last.terminated and last.grade.passed and last.grade.score == 1, (shown, last)
        assert all(len(text) < 400 for text in shown[1:]), "each turn shows what is new, not the whole game"
        _, lost = play(config, task, lambda text, turn: "[21]", turns=3)
        assert lost.grade.passed is False


def test_textarena_hanoi_is_solved_by_the_recursion() -> None:
    require("textarena")
    config = TextArenaEnvironment(game="TowerOfHanoi-v0")

    def moves(count: int, start: str, goal: str, spare: str) -> list[str]:
        if not count:
            return []
        return [*moves(count - 1, start, spare, goal), f"[{start} {goal}]", *moves(count - 1, spare, goal, start)]

    path = moves(3, "A", "C", "B")
    _, last = play(config, one(config), lambda text, turn: path[turn])
    assert last.terminated and last.grade.score == 1


def test_textarena_episodes_neither_disturb_each_other_nor_the_program() -> None:
    """The package draws from Python's global stream: side by side must equal one after the other."""
    require("textarena")
    config = TextArenaEnvironment(game="TicTacToe-v0")
    first, second = drawn(config, "train", 2)

    def lines(text: str, turn: int) -> str:
        import re

        return random.Random(turn).choice(re.findall(r"'(\[\d\])'", text.rsplit("Available Moves", 1)[-1]))

    alone = [play(config, task, lines)[0] for task in (first, second)]

    async def interleaved() -> list[list[str]]:
        worlds = [adapters.factory(config)(task) for task in (first, second)]
        shown = [[(await world.reset(task)).messages[-1].content] for world, task in zip(worlds, (first, second), strict=True)]
        over = [False, False]
        for turn in range(9):
            for number, world in enumerate(worlds):
                if not over[number]:
                    result = await world.step(Action(Message("assistant", lines(shown[number][-1], turn))))
                    shown[number] += [message.content for message in result.observation.messages]
                    over[number] = result.terminated
        assert all(over)
        return shown

    random.seed(5)
    before = random.getstate()
    assert asyncio.run(interleaved()) == alone
    assert random.getstate() == before


@pytest.mark.parametrize("game", ["Bandit", "Blackjack", "FrozenLake", "GuessTheNumber", "Mastermind", "Minesweeper", "Sudoku"])
def test_textarena_games_said_to_work_offline_do(game: str) -> None:
    require("textarena")
    config = TextArenaEnvironment(game=f"{game}-v0")
    shown, last = play(config, one(config), lambda text, turn: "nonsense \x1b[2J [", turns=3)
    assert len(shown[0]) > 80 and last.grade.status == "scored" and not last.grade.passed


def test_textarena_refuses_games_that_would_download() -> None:
    require("textarena")
    with pytest.raises(UserError, match="without a network"):
        adapters.factory(TextArenaEnvironment(game="Wordle-v0"))


# ------------------------------------------------------------------------------------------------ reasoning-gym

LEGS = ReasoningGymEnvironment(datasets=["leg_counting", "chain_sum"])
BROKEN = ["game_of_life_halting", "prime_factorization", "spell_backward", "knights_knaves", "rush_hour", "gsm_symbolic"]


def answered(config: ReasoningGymEnvironment, task: Task, text: str) -> Grade:
    _, last = play(config, task, lambda shown, turn: text)
    assert last.terminated
    grade: Grade = last.grade
    return grade


def test_reasoning_gym_gold_passes_and_junk_does_not() -> None:
    require("reasoning_gym")
    for task in drawn(LEGS, "test", 6):
        gold = task.answer
        assert answered(LEGS, task, f"Let me see. <answer>{gold}</answer>").passed
        for wrong in (
            "",
            str(gold),
            f"<answer>{gold} or 3</answer>",
            "<answer></answer>",
            f"<answer>0</answer><answer>{gold}</answer>",
            f"<answer>{int(gold or 0) + 1}</answer>",
            "<answer>I do not know.</answer>",
        ):
            grade = answered(LEGS, task, wrong)
            assert grade.status == "scored" and grade.score == 0 and grade.passed is False, wrong


@pytest.mark.parametrize("name", BROKEN)
def test_reasoning_gym_data_sets_with_a_broken_scorer_are_refused(name: str) -> None:
    require("reasoning_gym")
    with pytest.raises(UserError, match="cannot be trusted") as caught:
        adapters.factory(ReasoningGymEnvironment(datasets=[name]))
    assert "exact" in caught.value.fix


def test_reasoning_gym_exact_takes_the_reference_alone() -> None:
    require("reasoning_gym")
    config = ReasoningGymEnvironment(datasets=["game_of_life_halting", "spell_backward"], scorer="exact")
    for task in drawn(config, "train", 4):
        assert answered(config, task, f"<answer> {task.answer} </answer>").passed
        assert answered(config, task, f"<answer>{task.answer} indeed</answer>").passed is False
    with pytest.raises(UserError, match="no reference answer"):
        adapters.factory(ReasoningGymEnvironment(datasets=["rush_hour"], scorer="exact"))


def test_reasoning_gym_a_scorer_that_raises_is_an_error_and_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    require("reasoning_gym")
    from posttrain.environments.adapters import reasoning_gym as ours

    task = adapters.tasks(LEGS, split="train", count=1, seed=0)[0]

    def broken(text: str, item: object) -> float:
        raise KeyError("metadata")

    monkeypatch.setattr(ours, "scorer", lambda name: broken)
    grade = ours.judged(LEGS, task, f"<answer>{task.answer}</answer>")
    assert grade.status == "error" and grade.score is None and "KeyError" in grade.explanation


def test_reasoning_gym_splits_share_no_question_and_unknown_names_are_refused() -> None:
    require("reasoning_gym")
    questions = [{task.messages[0].content for task in drawn(LEGS, split, 80)} for split in ("train", "test")]
    assert len(questions[0]) == 80 and not questions[0] & questions[1]
    with pytest.raises(UserError, match="no data set 'leg_countin'") as caught:
        adapters.factory(ReasoningGymEnvironment(datasets=["leg_countin"]))
    assert "leg_counting" in caught.value.fix


def test_a_package_that_is_missing_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(adapters.ADAPTERS, "gymnasium", ("no_such_package", "pip install no-such-package"))
    with pytest.raises(UserError, match="needs the package no_such_package") as caught:
        adapters.factory(LAKE)
    assert caught.value.fix == "Run `pip install no-such-package`."
