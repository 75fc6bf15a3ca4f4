"""A teacher's answers as training data: ask a chat model, and write what was kept as rows with where they came from.

Imitating a teacher's samples is sequence-level distillation (arXiv:1606.07947); what DeepSeek-R1's small models are made of
(arXiv:2501.12948, section 2.4). Fails where the student cannot follow: it then learns the teacher's tone and not its skill.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from posttrain.core.errors import EnvironmentFailed, Unanswered
from posttrain.core.protocols import ChatModel
from posttrain.core.seeds import derive
from posttrain.core.types import (
    Conversation,
    Example,
    Message,
    Passage,
    Rollout,
    RolloutStatus,
    Sampling,
    Task,
    TokenRow,
    floats,
    ints,
)
from posttrain.rollouts.collect import cancel

UNSEEN = -1


def prompts(examples: Iterable[Example]) -> Iterator[Task]:
    """What stands before each row's last answer, as a task without a reference answer; each prompt once."""
    seen: set[tuple[Message, ...]] = set()
    for example in examples:
        if isinstance(example, Passage):
            messages: tuple[Message, ...] = (Message("user", example.prompt),) if example.prompt.strip() else ()
        else:
            messages = before_the_answer(example)
        if messages and messages not in seen:
            seen.add(messages)
            yield Task(f"row-{len(seen)}", messages, slices=getattr(example, "slices", {}))


def before_the_answer(conversation: Conversation) -> tuple[Message, ...]:
    last = max((i for i, message in enumerate(conversation.messages) if message.role == "assistant"), default=0)
    return conversation.messages[:last]


async def asked(
    tasks: Sequence[Task],
    samples: int,
    model: ChatModel,
    sampling: Sampling,
    *,
    seed: int,
    limit: float,
    proceed: Callable[[], None],
) -> AsyncIterator[Rollout]:
    """Every sample of every task, in the order they come. One without an answer is a failed rollout; with more than the share
    `limit` of those, EnvironmentFailed. `proceed` is called before each question and may raise."""

    async def one(task: Task, sample: int) -> Rollout:
        proceed()
        try:
            reply = await model.reply(task.messages, sampling, seed=derive(seed, task.id, sample))
        except Unanswered as error:
            return Rollout(task, sample, task.messages, (), sampling, "failed", failure=error.message)
        status: RolloutStatus = "truncated" if reply.finish == "length" else "done"
        messages = (*task.messages, Message("assistant", reply.text, thinking=reply.thinking))
        return Rollout(task, sample, messages, unseen(reply.tokens), sampling, status)

    running = [asyncio.ensure_future(one(task, sample)) for task in tasks for sample in range(samples)]
    failures: Counter[str] = Counter()
    try:
        for finished in asyncio.as_completed(running):
            rollout = await finished
            if rollout.status == "failed":
                failures[rollout.failure] += 1
                require_answers(failures, len(running), limit)
            yield rollout
    finally:
        await cancel(running)


def unseen(count: int | None) -> tuple[TokenRow, ...]:
    """An answer of which an endpoint says how many tokens it had, but not which."""
    if not count:
        return ()
    return (TokenRow(ints([UNSEEN] * count), ints([1] * count), floats([float("nan")] * count), ints([UNSEEN] * count)),)


def require_answers(failures: Counter[str], total: int, limit: float) -> None:
    missing = failures.total()
    if missing <= limit * total:
        return
    reason, _ = failures.most_common(1)[0]
    raise EnvironmentFailed(
        f"the teacher owes {missing} of {total} answers (limit {limit:.0%}); most often: {reason}.",
        fix="What it answered is kept. Mend the endpoint, or raise max_unanswered, and run again.",
    )


def row(task: Task, answer: Message, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """One conversation as a line of a data file."""
    turns = [{"role": message.role, "content": message.content} for message in task.messages]
    reply = {"role": "assistant", "content": answer.content}
    if answer.thinking:
        reply["thinking"] = answer.thinking
    return {"messages": [*turns, reply], "slices": dict(task.slices), "provenance": dict(provenance)}


def provenance(teacher: str, task: Task, sample: int, of: int, score: float | None, sampling: Sampling) -> dict[str, Any]:
    """Who said this, to what, and how it was drawn; no access data."""
    drawn = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(sampling).items()}
    return {"task": task.id, "teacher": teacher, "sample": sample, "of": of, "score": score, "sampling": drawn}
