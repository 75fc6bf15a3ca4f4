"""Progress of long work: a bar with the time left on a terminal, a line every few seconds elsewhere. Always on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from posttrain.cli.show import duration, harmless
from posttrain.core.protocols import Reporter

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.text import Text

LINE_EVERY_S = 5.0


def reporter(stream: TextIO | None = None) -> Reporter:
    stream = stream or sys.stderr
    return Bar() if stream.isatty() else Lines(stream)


class Lines:
    """For logs and pipes: `reasoning-rl 12/25, 1 min 10 s left, passed 0.45`."""

    def __init__(self, stream: TextIO, every_s: float = LINE_EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._every_s, self._clock = stream, every_s, clock
        self._work, self._total, self._done = "", 0, 0
        self._began = self._printed = 0.0
        self._shown: dict[str, float] = {}

    def start(self, work: str, total: int) -> None:
        self._work, self._total, self._done, self._shown = work, total, 0, {}
        self._began = self._printed = self._clock()

    def advance(self, count: int = 1, **shown: float) -> None:
        self._done += count
        self._shown |= shown
        now = self._clock()
        if now - self._printed >= self._every_s:
            self._printed = now
            left = (now - self._began) / self._done * (self._total - self._done) if self._done else 0.0
            self.say(f"  {self._work} {self._done}/{self._total}, {duration(max(left, 0.0))} left{values(self._shown)}")

    def finish(self) -> None:
        if self._work:
            self.say(f"  {self._work} {self._done}/{self._total} in {duration(self._clock() - self._began)}{values(self._shown)}")
        self._work = ""

    def say(self, text: str) -> None:
        print(harmless(rendered(text).plain), file=self._stream, flush=True)


class Bar:
    """For people: one bar, which is replaced by the next piece of work."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def start(self, work: str, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.finish()
        self._progress = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("[dim]time left[/dim]"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("[dim]elapsed[/dim]"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
            console=self._console,
        )
        self._progress.start()
        self._task = self._progress.add_task(harmless(work), total=total, shown="")

    def advance(self, count: int = 1, **shown: float) -> None:
        if self._progress is not None and self._task is not None:
            text = {"shown": values(shown).removeprefix(", ")} if shown else {}
            self._progress.update(self._task, advance=count, **text)  # type: ignore[arg-type]  # fields are free

    def finish(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None

    def say(self, text: str) -> None:
        self._console.print(rendered(harmless(text)))


def rendered(text: str) -> Text:
    """What is said, with its colours where it is rich markup (an example from chat.preview), which always closes a tag."""
    from rich.errors import MarkupError
    from rich.text import Text

    if "[/" in text:
        with contextlib.suppress(MarkupError):
            return Text.from_markup(text)
    return Text(text)


def values(shown: dict[str, float]) -> str:
    """`, passed 0.45, loss 0.31`."""
    return "".join(f", {name.replace('_', ' ')} {value:.3g}" for name, value in shown.items())
