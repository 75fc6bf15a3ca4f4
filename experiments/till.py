"""A till as a world: the customer pays what the model says, and the drawer closes only over the exact sum.

The task is a sum. What the model answers is charged; if the till does not balance, it says in which direction, and the
model may try once more. The grade is the state of the till at the end and nothing that the model wrote about it. An environment
for `kind: own`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from posttrain.core.types import Action, Grade, Message, Observation, StepResult, Task, Tool

NUMBER = re.compile(r"(?:(?<![\w)])-)?\d[\d,]*(?:\.\d+)?")


class Till:
    """One customer. `tries` charges at most."""

    def __init__(self, task: Task, tries: int = 2) -> None:
        self.due = int(task.answer or "")
        self.left = tries
        self.charged: int | None = None

    @property
    def tools(self) -> Sequence[Tool]:
        return ()

    async def reset(self, task: Task) -> Observation:
        return Observation(task.messages)

    async def step(self, action: Action) -> StepResult:
        self.left -= 1
        self.charged = amount(action.message.content)
        if self.charged == self.due:
            return StepResult(Observation(), terminated=True, grade=Grade(1.0, True, answer=str(self.charged)))
        refused = Grade(0.0, False, answer=None if self.charged is None else str(self.charged))
        if not self.left:
            return StepResult(Observation(), terminated=True, grade=refused)
        return StepResult(Observation((Message("user", self.complaint()),)), grade=refused)

    async def close(self) -> None:
        """Nothing is held open."""

    def complaint(self) -> str:
        if self.charged is None:
            return "The till was not charged. State the sum again."
        return f"The till does not balance: {self.charged} is too {'much' if self.charged > self.due else 'little'}. Add again."


def amount(text: str) -> int | None:
    """The number in the last answer tag, else the last number. None where there is none that a till could hold."""
    tagged = text.rpartition("<answer>")[2].partition("</answer>")[0] if "<answer>" in text else text
    found = NUMBER.findall(tagged) or NUMBER.findall(text)
    written = found[-1].replace(",", "") if found else ""
    whole, _, rest = written.partition(".")
    return int(whole) if whole and len(whole) <= 12 and not rest.strip("0") else None
