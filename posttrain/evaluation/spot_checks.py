"""Which answers people should look at: a third at random, a third where graders disagree most, a third with the highest reward.

Random ones say how good the grader is, the others find where it is not: what is optimised shows first among the highest rewards.
Kappa over a queue of all three is of that queue and not of all answers; the random third alone is. The order is shuffled, so that
nobody can tell which is which.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Record(Protocol):
    """What the queue needs of a rollout record."""

    @property
    def score(self) -> float | None: ...
    @property
    def parts(self) -> Mapping[str, float | None]: ...
    @property
    def completion(self) -> str: ...


@dataclass(frozen=True)
class Check:
    """One answer to look at, and why it was chosen (which is not shown)."""

    record: Any
    stratum: str


def queue(records: Sequence[Record], count: int, *, seed: int) -> list[Check]:
    """At most `count` different answers. The same seed makes the same queue, so that one can go on later."""
    draw = random.Random(seed)
    scored = [record for record in records if record.score is not None and record.completion.strip()]
    shuffled = draw.sample(scored, len(scored))  # equal values are taken in random order
    strata = {
        "random": shuffled,
        "disagreement": sorted(shuffled, key=lambda record: -disagreement(record)),
        "reward": sorted(shuffled, key=lambda record: -(record.score or 0.0)),
    }
    taken: dict[int, Check] = {}
    places = {name: iter(order) for name, order in strata.items()}
    while len(taken) < min(count, len(scored)):
        for name, order in places.items():
            record = next((each for each in order if id(each) not in taken), None)
            if record is not None and len(taken) < count:
                taken[id(record)] = Check(record, name)
    found = list(taken.values())
    draw.shuffle(found)
    return found


def disagreement(record: Record) -> float:
    """What a panel says of itself, else how far the graders' parts lie apart."""
    own = [value for name, value in record.parts.items() if name.endswith("disagreement") and value is not None]
    if own:
        return max(own)
    values = [value for name, value in record.parts.items() if "/" not in name and value is not None]
    return max(values) - min(values) if len(values) > 1 else 0.0
