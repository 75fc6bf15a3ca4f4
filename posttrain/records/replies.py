"""What a chat model answered, kept by the content of the question: a killed stage, or one whose other settings changed, asks
for nothing twice.

One line of JSON a reply, on the disk before it counts. Equal are the model's name, the messages, the sampling and the seed.
Assumes that a name means one model for the length of a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from posttrain.core.faults import fault
from posttrain.core.protocols import ChatModel
from posttrain.core.types import Message, Reply, Sampling
from posttrain.records.events import append_event, read_events


class Remembered:
    """A ChatModel that asks `model` only for what is not in the file. Failures are not kept."""

    def __init__(self, model: ChatModel, name: str, path: Path) -> None:
        self.model, self.name, self.path = model, name, path
        self.known = {
            line["key"]: Reply(line["text"], line["finish"], line["tokens"], line["thinking"])
            for line in read_events(path)
            if line["event"] == "reply"
        }

    async def reply(self, messages: Sequence[Message], sampling: Sampling, *, seed: int) -> Reply:
        key = content_key(self.name, messages, sampling, seed)
        if key not in self.known:
            found = await self.model.reply(messages, sampling, seed=seed)
            append_event(self.path, "reply", key=key, **asdict(found))
            self.known[key] = found
            fault("reply:kept")
        return self.known[key]


def content_key(name: str, messages: Sequence[Message], sampling: Sampling, seed: int) -> str:
    asked = [name, [asdict(message) for message in messages], asdict(sampling), seed]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
