"""When a worker may stop: after whole passes over its fixed set, once enough seconds have gone by.

Work is counted from the end of the warm-up step to the end of the last step, so all that happens between steps counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """`steps` make one pass; `seconds` is the least that is measured."""

    steps: int
    seconds: float
    ends: list[float] = field(default_factory=list)

    def lap(self) -> bool:
        """A step ended (the first one is the warm-up). True if that was the last one needed."""
        self.ends.append(time.perf_counter())
        measured = len(self.ends) - 1
        return measured > 0 and measured % self.steps == 0 and self.ends[-1] - self.ends[0] >= self.seconds

    def batch(self, step: int) -> int:
        """Which batch of the set a step takes: number 0 to warm up, then 1 to `steps` over and over."""
        return 0 if step == 0 else 1 + (step - 1) % self.steps

    def record(self, units: float) -> dict[str, float | list[float]]:
        """`units` is the work of one pass."""
        measured = len(self.ends) - 1
        seconds = self.ends[-1] - self.ends[0]
        laps = [later - earlier for earlier, later in zip(self.ends, self.ends[1:], strict=False)]
        return {"seconds": seconds, "work": units * measured / self.steps, "measured_steps": measured, "laps": laps}
