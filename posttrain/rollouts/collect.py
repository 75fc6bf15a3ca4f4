"""episodes -> graded -> grouped: four short async steps, each an AsyncIterator of what it makes.

All samples are asked for at once, so the engine decides how to batch them and nothing depends on the clock. Grading runs
while the engine still decodes. A rollout that cannot be made and a grader that breaks become values here, at one border;
a generator that breaks is an exception.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import cast

from posttrain.core.errors import UserError
from posttrain.core.protocols import Generator, Grader, GroupGrader, Renderer
from posttrain.core.seeds import derive
from posttrain.core.types import Completion, Grade, Group, Rollout, Sampling, Task, TokenRow, floats, ints
from posttrain.rollouts.environment import World, played


def as_row(prompt: array[int], completion: Completion) -> TokenRow:
    """Exactly the tokens the model saw and wrote, trained where it wrote."""
    before, after = len(prompt), len(completion.tokens)
    return TokenRow(
        prompt + completion.tokens,
        ints([0] * before + [1] * after),
        floats([0.0] * before) + completion.logprobs,
        ints([-1] * before) + completion.versions,
    )


async def episode(task: Task, sample: int, generator: Generator, renderer: Renderer, sampling: Sampling, *, seed: int) -> Rollout:
    """One single-turn attempt. A task that cannot be asked (a prompt longer than the context) is a failed rollout."""
    prompt = renderer.prompt(task.messages)
    try:
        completion = await generator.generate(prompt, sampling, seed=seed)
    except UserError as error:
        return Rollout(task, sample, task.messages, (), sampling, "failed", failure=str(error))
    messages = (*task.messages, renderer.parse(completion.text))
    status = {"stop": "done", "length": "truncated", "abort": "failed"}[completion.finish]
    failure = "generation was aborted" if status == "failed" else ""
    return Rollout(task, sample, messages, (as_row(prompt, completion),), sampling, status, failure=failure)  # type: ignore[arg-type]


async def episodes(
    tasks: Sequence[Task], samples: int, generator: Generator, renderer: Renderer, sampling: Sampling, *, seed: int
) -> AsyncIterator[Rollout]:
    """Every sample of every task, in the order they finish. Each draws from a stream of its own (seed, task, sample)."""
    running = [
        asyncio.ensure_future(episode(task, s, generator, renderer, sampling, seed=derive(seed, task.id, s)))
        for task in tasks
        for s in range(samples)
    ]
    try:
        for finished in asyncio.as_completed(running):
            yield await finished
    finally:
        await cancel(running)


async def graded(rollouts: AsyncIterator[Rollout], grader: Grader) -> AsyncIterator[Rollout]:
    """Grade as rollouts arrive. A grader that raises gives an error grade, never a zero."""
    running: set[asyncio.Task[Rollout]] = set()
    try:
        async for rollout in rollouts:
            running.add(asyncio.create_task(graded_one(rollout, grader)))
            for done in [task for task in running if task.done()]:
                running.discard(done)
                yield done.result()
        for finished in asyncio.as_completed(list(running)):
            yield await finished
    finally:
        await cancel(running)


async def graded_one(rollout: Rollout, grader: Grader) -> Rollout:
    if rollout.status == "failed":
        return rollout
    if rollout.ending == "deadline":
        return replace(rollout, grade=Grade.unscored(rollout.failure))
    try:
        grade = await grader(rollout.task, rollout)
    except Exception as error:  # the border of graders: whatever a grader does, the run goes on and says so
        grade = Grade.error(f"the grader raised {type(error).__name__}: {error}")
    return replace(rollout, grade=grade)


async def grouped(rollouts: AsyncIterator[Rollout], tasks: Sequence[Task], samples: int) -> list[Group]:
    """Whole groups in task order, samples in order, however they finished."""
    found: dict[tuple[str, int], Rollout] = {}
    async for rollout in rollouts:
        found[rollout.task.id, rollout.sample] = rollout
    return [Group(task, tuple(found[task.id, s] for s in range(samples))) for task in tasks]


async def collect(
    tasks: Sequence[Task],
    generator: Generator,
    renderer: Renderer,
    grader: Grader,
    sampling: Sampling,
    *,
    samples: int = 1,
    seed: int,
    world: World | None = None,
) -> list[Group]:
    """All tasks, `samples` attempts each, graded and grouped: single answers, or episodes in a `world`."""
    if world is None:
        attempts = episodes(tasks, samples, generator, renderer, sampling, seed=seed)
    else:
        attempts = played(tasks, samples, generator, renderer, sampling, world, seed=seed)
    if getattr(grader, "by_group", False):
        together = await grouped(attempts, tasks, samples)
        return list(await asyncio.gather(*(graded_group(group, cast(GroupGrader, grader)) for group in together)))
    return await grouped(graded(attempts, grader), tasks, samples)


async def graded_group(group: Group, grader: GroupGrader) -> Group:
    """Grade a task's attempts together, without those that failed. A grader that raises gives error grades, never zeros."""
    whole = [rollout for rollout in group.rollouts if rollout.status != "failed" and rollout.ending != "deadline"]
    try:
        grades = list(await grader.group(group.task, whole)) if whole else []
    except Exception as error:  # the border of graders, as above
        grades = [Grade.error(f"the grader raised {type(error).__name__}: {error}")] * len(whole)
    judged = {rollout.sample: replace(rollout, grade=grade) for rollout, grade in zip(whole, grades, strict=True)}
    return replace(group, rollouts=tuple(judged.get(rollout.sample, rollout) for rollout in group.rollouts))


async def cancel(tasks: Iterable[asyncio.Future[Rollout]]) -> None:
    """End what still runs when a step is left early, so that nothing keeps generating unseen. Errors of others that failed
    with the one that is raised are taken note of here, or Python would print each at its end."""
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
