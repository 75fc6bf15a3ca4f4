"""What a chat model answered, kept by the content of the question: a killed stage, or one whose other settings changed, asks
for nothing twice.

One line of JSON a reply, on the disk before it counts. Equal are the model's name, the messages, the sampling and the seed.
Assumes that a name means one model for the length of a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posttrain.core.faults import fault
from posttrain.core.protocols import ChatModel
from posttrain.core.types import Message, Reply, Sampling, TokenChoice
from posttrain.records.events import append_event, read_events


class Remembered:
    """A ChatModel that asks `model` only for what is not in the file. Failures are not kept, and neither is what `keep` refuses:
    a judge's junk, which would come from the file for ever."""

    def __init__(self, model: ChatModel, name: str, path: Path, *, keep: Callable[[Reply], bool] = lambda reply: True) -> None:
        self.model, self.name, self.path, self.keep = model, name, path, keep
        self.known = {line["key"]: read_reply(line) for line in read_events(path) if line["event"] == "reply"}

    async def reply(self, messages: Sequence[Message], sampling: Sampling, *, seed: int, top: int = 0) -> Reply:
        key = content_key(self.name, messages, sampling, seed, top)
        if key not in self.known:
            found = await self.model.reply(messages, sampling, seed=seed, top=top)
            if not self.keep(found):
                return found
            append_event(self.path, "reply", key=key, model=self.name, **asdict(found))
            self.known[key] = found
            fault("reply:kept")
        return self.known[key]


def read_reply(line: Mapping[str, Any]) -> Reply:
    """A reply from its line; earlier lines have no prompt tokens and no choices."""
    choices = tuple(
        TokenChoice(each["text"], each["logprob"], tuple((text, logprob) for text, logprob in each["top"]))
        for each in line.get("choices", ())
    )
    return Reply(line["text"], line["finish"], line["tokens"], line["thinking"], line.get("prompt_tokens"), choices)


def kept_cost(path: Path, name: str) -> tuple[int, int]:
    """Replies of one model in a file, and the tokens that they took where the server said so."""
    lines = [line for line in read_events(path) if line["event"] == "reply" and line.get("model") == name]
    return len(lines), sum((line["tokens"] or 0) + (line.get("prompt_tokens") or 0) for line in lines)


def content_key(name: str, messages: Sequence[Message], sampling: Sampling, seed: int, top: int = 0) -> str:
    asked = [name, [asdict(message) for message in messages], asdict(sampling), seed, *([top] if top else [])]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
