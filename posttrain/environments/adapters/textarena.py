"""textarena (MIT): word and board games for one, and games for two against a player that moves at random.

The model writes its move as plain text; the game reads it. Only games that were seen to work without a network are taken: many
others download word lists when they are made. A game for two must list its moves in brackets, which is what the other side
draws from. The package draws from Python's global random stream: each episode keeps its own state of it, swapped in around every
call, so episodes side by side neither disturb each other nor the rest of the program.
The score is the reward of the game, as it gives it; it passes at 1 or more.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import textarena

from posttrain.core.config import TextArenaEnvironment
from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.protocols import EnvironmentFactory
from posttrain.core.types import Action, Grade, Message, Observation, StepResult, Task, Tool
from posttrain.environments.adapters.seeds import seeds

OFFLINE = {
    "Bandit-v0": 1,
    "Blackjack-v0": 1,
    "FrozenLake-v0": 1,
    "GuessTheNumber-v0": 1,
    "Mastermind-v0": 1,
    "Minesweeper-v0": 1,
    "Sudoku-v0": 1,
    "TowerOfHanoi-v0": 1,
    "TicTacToe-v0": 2,
}
"""Game -> number of players."""
MOVE = re.compile(r"'(\[[^\[\]']+\])'")
OTHER_TURNS = 50
"""Moves that the other side may need before it is the model's turn again."""


class Game:
    """One episode; the model is player 0."""

    def __init__(self, config: TextArenaEnvironment) -> None:
        self.config = config
        self.tools: Sequence[Tool] = ()
        self.stream = random.Random()
        self.other = random.Random()
        self.shared = self.stream.getstate()
        self.world: Any = None

    async def reset(self, task: Task) -> Observation:
        seed = task.metadata.get("seed")
        if not isinstance(seed, int):
            raise UserError(f"task {task.id} has no seed in its metadata.", fix="Write tasks with `posttrain environments tasks`.")
        self.shared, self.other = random.Random(seed).getstate(), random.Random(seed + 1)
        with self.own_randomness():
            self.world = textarena.make(f"{self.config.game}-raw")  # without the wrappers that repeat the whole game in every turn
            self.world.reset(num_players=OFFLINE[self.config.game], seed=seed)
            shown = self.seen()
        return Observation((*task.messages[:-1], Message("user", f"{task.messages[-1].content}\n\n{shown}")))

    async def step(self, action: Action) -> StepResult:
        with self.own_randomness():
            done, _ = self.world.step(action=action.message.content)
            done = done or self.other_side()
            if done:
                return StepResult(Observation(), terminated=True, grade=self.verdict())
            return StepResult(Observation((Message("user", self.seen()),)), grade=self.unfinished())

    async def close(self) -> None:
        """Nothing is held but memory."""

    def other_side(self) -> bool:
        """Let the other players move until it is the model's turn; whether the game is over."""
        for _ in range(OTHER_TURNS):
            if self.world.state.current_player_id == 0:
                return False
            moves = MOVE.findall(self.seen())
            if not moves:
                raise RuntimeError(f"{self.config.game} lists no moves for the other side")
            done, _ = self.world.step(action=self.other.choice(moves))
            if done:
                return True
        raise RuntimeError(f"{self.config.game} did not come back to the model's turn")

    def seen(self) -> str:
        """What the game tells the player whose turn it is, since that was last asked; the model's own moves left out."""
        _, told = self.world.get_observation()
        own = textarena.ObservationType.PLAYER_ACTION
        return "\n".join(str(text).strip() for sender, text, kind in told if kind != own or sender > 0)

    def verdict(self) -> Grade:
        rewards, info = self.world.close()
        reward = (rewards or {}).get(0)
        if reward is None:
            return Grade.error(f"{self.config.game} ended without a reward")
        reason = str((info or {}).get(0, {}).get("reason", "")) or f"reward {reward:g}"
        return Grade(float(reward), passed=reward >= 1, explanation=reason[:200])

    def unfinished(self) -> Grade:
        return Grade(0.0, passed=False, explanation="the game was not played to its end")

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        outside = random.getstate()
        random.setstate(self.shared)
        try:
            yield
        finally:
            self.shared = random.getstate()
            random.setstate(outside)


def factory(config: TextArenaEnvironment) -> EnvironmentFactory:
    if config.game not in OFFLINE:
        fix = did_you_mean(config.game, OFFLINE)
        raise UserError(f"environment.game is {config.game!r}, which is not known to work without a network.", fix=fix)
    return lambda task: Game(config)


def tasks(config: TextArenaEnvironment, *, split: str, count: int, seed: int) -> list[Task]:
    factory(config)
    ask = "Play this game. Answer with your move, in the form that the game asks for."
    return [
        Task(f"{config.game}/{split}/{number}", (Message("user", ask),), slices={"game": config.game}, metadata={"seed": number})
        for number in seeds(config.game, split=split, count=count, seed=seed)
    ]
