"""Episodes in an environment: the model writes a turn, the world answers, until one of them ends it.

Token in, token out: a turn's prompt is every token so far, the model's own as it drew them, and what the template writes for
the answer of the world (chat/render.py: following). Nothing that the model wrote is ever encoded again, so what is trained on
is what was sampled. Only the model's own tokens carry loss; an episode is one row of tokens.

Episodes go turn by turn side by side: all turns of a round are asked for at once, and all worlds then answer side by side. So
the engine batches the same rows whatever a world's speed, and nothing depends on the clock; the price is that a round waits for
its slowest world. Each turn draws from a stream of its own (seed, task, sample, turn). The engine reads the whole conversation
again in every turn; it does not keep an episode's keys and values from one turn to the next.

Truncation is kept apart from termination: an episode that a limit ended has status `truncated` and says which. One that its
deadline ended has no score, because a clock is no part of the task; a run in which that happened is not repeatable bit for bit,
and its rollouts show it. A world that raises or hangs makes a failed rollout here, at one border, and never a score of 0. A world
that blocks the event loop cannot be timed out: what takes long must be awaited.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from posttrain.core.config import EpisodeConfig
from posttrain.core.errors import UserError
from posttrain.core.protocols import Environment, EnvironmentFactory, Generator, Renderer
from posttrain.core.seeds import derive
from posttrain.core.types import (
    Action,
    Completion,
    Ending,
    Grade,
    Message,
    Rollout,
    RolloutStatus,
    Sampling,
    StepResult,
    Task,
    TokenRow,
    floats,
    ints,
)

T = TypeVar("T")
STATUS: dict[Ending, RolloutStatus] = {"terminated": "done", "failed": "failed"}
"""Every other ending is a truncation."""


@dataclass(frozen=True)
class World:
    """What makes environments, and the limits of the episodes in them."""

    make: EnvironmentFactory
    limits: EpisodeConfig


@dataclass
class Tokens:
    """The tokens of an episode so far, with one value per token of each stream."""

    tokens: array[int] = field(default_factory=lambda: ints(()))
    mask: array[int] = field(default_factory=lambda: ints(()))
    logprobs: array[float] = field(default_factory=lambda: floats(()))
    versions: array[int] = field(default_factory=lambda: ints(()))

    def read(self, tokens: array[int]) -> None:
        """Tokens that the model only reads."""
        self.tokens += tokens
        self.mask += ints([0] * len(tokens))
        self.logprobs += floats([0.0] * len(tokens))
        self.versions += ints([-1] * len(tokens))

    def wrote(self, completion: Completion) -> None:
        """Tokens that the model wrote itself."""
        self.tokens += completion.tokens
        self.mask += ints([1] * len(completion.tokens))
        self.logprobs += completion.logprobs
        self.versions += completion.versions

    def row(self) -> TokenRow:
        return TokenRow(self.tokens, self.mask, self.logprobs, self.versions)


class Episode:
    """One attempt under way. `ending` is empty while it goes on."""

    def __init__(self, task: Task, sample: int) -> None:
        self.task, self.sample = task, sample
        self.ending: Ending = ""
        self.cut: Ending = ""  # the turn was cut off: the world answers it, for its grade, and that is the end
        self.failure = ""
        self.grade: Grade | None = None
        self.turns = 0
        self.tokens = Tokens()
        self.messages: list[Message] = []
        self.written: list[Message] = []  # the same conversation, the model's turns as plain text: what the template is given
        self.tools: list[dict[str, Any]] = []
        self.last = ints(())  # the tokens of the model's last turn
        self.environment: Environment | None = None
        self.began = time.monotonic()

    def end(self, ending: Ending, failure: str = "") -> None:
        """End it, once: what came first counts, except that a failure beats everything."""
        if not self.ending or ending == "failed":
            self.ending, self.failure = ending, self.failure or failure

    def rollout(self, sampling: Sampling) -> Rollout:
        status = STATUS.get(self.ending, "truncated")
        rows = (self.tokens.row(),) if self.turns else ()
        grade = None if self.ending in ("failed", "deadline") else self.grade
        messages = tuple(self.messages) or self.task.messages
        return Rollout(
            self.task, self.sample, messages, rows, sampling, status, grade, self.failure, self.ending, tuple(self.tools)
        )


async def played(
    tasks: Sequence[Task], samples: int, generator: Generator, renderer: Renderer, sampling: Sampling, world: World, *, seed: int
) -> AsyncIterator[Rollout]:
    """Every sample of every task, in the order they end, at most `at_once` of them side by side."""
    every = [Episode(task, sample) for task in tasks for sample in range(samples)]
    for start in range(0, len(every), world.limits.at_once):
        live = every[start : start + world.limits.at_once]
        try:
            await together(begin(episode, renderer, world) for episode in live)
            while live:
                asked = [episode for episode in live if not episode.ending]
                await together(write(episode, generator, renderer, sampling, world, seed=seed) for episode in asked)
                await together(answer(episode, renderer, world) for episode in asked if not episode.ending)
                ended = [episode for episode in live if episode.ending]
                await together(close(episode, world) for episode in ended)
                live = [episode for episode in live if not episode.ending]
                for episode in ended:
                    yield episode.rollout(sampling)
        finally:
            await together(close(episode, world) for episode in live)


async def begin(episode: Episode, renderer: Renderer, world: World) -> None:
    """Make the world, reset it, and lay out the opening of the conversation."""
    episode.began = time.monotonic()

    async def opened() -> Sequence[Message]:
        episode.environment = world.make(episode.task)
        opening = (await episode.environment.reset(episode.task)).messages
        if not opening or opening[-1].role == "assistant":
            raise ValueError("reset must give the opening of the conversation, which ends with a user turn")
        episode.tools = [tool.schema for tool in episode.environment.tools]
        return opening

    opening = await guarded(episode, opened(), world.limits.step_timeout_s, "reset")
    if opening is not None:
        episode.messages, episode.written = list(opening), list(opening)
        episode.tokens.read(renderer.prompt(opening, episode.tools))


async def write(episode: Episode, generator: Generator, renderer: Renderer, sampling: Sampling, world: World, *, seed: int) -> None:
    """The model's next turn, if there is room and time for one."""
    room = world.limits.max_episode_tokens - len(episode.tokens.tokens)
    if time.monotonic() - episode.began > world.limits.episode_timeout_s:
        return episode.end("deadline", f"the episode took longer than {world.limits.episode_timeout_s:g} s")
    if room < 1:
        return episode.end("tokens")
    turn_seed = derive(seed, episode.task.id, episode.sample, episode.turns)
    limited = replace(sampling, max_tokens=min(sampling.max_tokens, room))
    try:
        completion = await generator.generate(ints(episode.tokens.tokens), limited, seed=turn_seed)
    except UserError as error:  # longer than the model's context, which later turns may well become
        return episode.end("tokens") if episode.turns else episode.end("failed", str(error))
    episode.turns += 1
    episode.tokens.wrote(completion)
    episode.messages.append(renderer.parse(completion.text, calls=bool(episode.tools)))
    episode.written.append(Message("assistant", completion.text))
    if completion.finish == "abort":
        return episode.end("failed", "generation was aborted")
    if completion.finish == "length":
        episode.cut = "tokens" if room <= sampling.max_tokens else "length"
    episode.last = completion.tokens
    return None


async def answer(episode: Episode, renderer: Renderer, world: World) -> None:
    """What the world makes of the turn, and the tokens in which the model will read it."""
    assert episode.environment is not None
    action = Action(episode.messages[-1])
    result = await guarded(episode, checked(episode.environment.step(action)), world.limits.step_timeout_s, f"turn {episode.turns}")
    if result is None:
        return None
    episode.grade = result.grade or episode.grade
    if episode.cut:
        return episode.end(episode.cut)
    if result.terminated or result.truncated:
        return episode.end("terminated" if result.terminated else "truncated")
    if episode.turns >= world.limits.max_turns:
        return episode.end("turns")
    added = result.observation.messages
    episode.tokens.read(renderer.following(episode.written, episode.last, added, episode.tools))
    episode.messages += added
    episode.written += added
    return None


async def checked(step: Awaitable[StepResult]) -> StepResult:
    """A step that goes on must say what the model reads next."""
    result = await step
    added = result.observation.messages
    if not (result.terminated or result.truncated) and (not added or added[-1].role == "assistant"):
        raise ValueError("a step that ends nothing must give a user or tool turn to read")
    return result


async def close(episode: Episode, world: World) -> None:
    if episode.environment is not None:
        environment, episode.environment = episode.environment, None
        await guarded(episode, environment.close(), world.limits.step_timeout_s, "close")


async def guarded(episode: Episode, work: Coroutine[Any, Any, T], seconds: float, when: str) -> T | None:
    """The border of environments: whatever a world does, the run goes on and says so. None if it failed."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except Exception as error:  # a world may raise anything
        if limit.expired():
            episode.end("failed", f"the environment did not answer within {seconds:g} s ({when})")
        else:
            episode.end("failed", f"the environment raised {type(error).__name__}: {error} ({when})")
    return None


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it side by side, begun in order. The first error flies, and ends the rest."""
    running = [asyncio.ensure_future(each) for each in work]
    try:
        for each in running:
            await each
    finally:
        left = [each for each in running if not each.done()]
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)
