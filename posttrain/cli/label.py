"""label."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posttrain.cli.options import RUNS, Runs, stage_folder
from posttrain.cli.show import harmless
from posttrain.core.errors import UserError

if TYPE_CHECKING:
    from posttrain.records.labels import Key

HELP = "y: it is good · n: it is not · s: skip · u: take the last one back · q: stop (what was said is kept)"


def label(
    stage: Annotated[str, typer.Argument(metavar="RUN/STAGE", help="A stage whose answers to look at; RUN is its last stage.")],
    count: Annotated[int, typer.Option(min=1, help="Answers to look at.")] = 30,
    question: Annotated[str, typer.Option(help="What is asked of each answer.")] = "Is this a good answer?",
    rater: Annotated[str | None, typer.Option(help="Who you are; the user's name if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Which answers, and their order.")] = 0,
    runs: Runs = RUNS,
) -> None:
    """Judge a stage's answers yourself: without scores, in random order; go on where you stopped. Feeds kappa and the report."""
    from posttrain.evaluation.spot_checks import queue
    from posttrain.records.paths import StagePaths
    from posttrain.records.rollouts import read_rollouts

    paths = StagePaths(stage_folder(stage, runs))
    if not paths.rollouts.is_dir():
        raise UserError(f"{stage} kept no answers.", fix="Name a stage that evaluates or learns from its own samples.")
    checks = queue(list(read_rollouts(paths.rollouts)), count, seed=seed)
    if not checks:
        raise UserError(f"{stage} has no answer with a score.", fix="Name another stage.")
    Desk(paths.labels, checks, rater or getpass.getuser(), question).work()


@dataclass
class Desk:
    """The queue of one rater, on the terminal."""

    path: Path
    checks: Sequence[Any]
    rater: str
    question: str

    def work(self) -> None:
        from posttrain.records.labels import take_back

        print(f"{self.question}\n{HELP}")
        said: list[Key] = []
        skipped: set[Key] = set()
        while (check := self.next(skipped)) is not None:
            self.show(check)
            try:
                key = input("> ").strip().lower()
            except EOFError:
                break
            if key in ("y", "n"):
                said.append(self.keep(check, key == "y"))
            elif key == "s":
                skipped.add(self.key(check))
            elif key == "u" and said:
                take_back(self.path, said.pop())
            elif key == "u":
                print("nothing of this sitting to take back")
            elif key == "q":
                break
            else:
                print(HELP)
        self.finish()

    def key(self, check: Any) -> Key:
        record = check.record
        return (record.suite, record.task_id, record.sample, record.step, self.rater)

    def next(self, skipped: set[Key]) -> Any:
        from posttrain.records.labels import read_judgements

        known = read_judgements(self.path)
        return next((check for check in self.checks if self.key(check) not in known and self.key(check) not in skipped), None)

    def show(self, check: Any) -> None:
        from posttrain.records.labels import read_judgements

        done = sum(self.key(each) in read_judgements(self.path) for each in self.checks)
        print(f"\n── {done + 1} of {len(self.checks)} " + "─" * 40)
        for turn in check.record.prompt:
            print(harmless(f"[{turn['role']}] {turn['content']}"))
        print(harmless(f"── answer\n{check.record.completion}"))

    def keep(self, check: Any, good: bool) -> Key:
        from posttrain.records.labels import add_label

        record = check.record
        add_label(
            self.path,
            suite=record.suite,
            task=record.task_id,
            sample=record.sample,
            step=record.step,
            rater=self.rater,
            question=self.question,
            prompt=[dict(turn) for turn in record.prompt],
            answer=record.completion,
            reference=record.reference,
            label=int(good),
            score=record.score,
            passed=record.passed,
            stratum=check.stratum,
        )
        return self.key(check)

    def finish(self) -> None:
        from posttrain.core.agreement import kappa, with_interval
        from posttrain.records.labels import read_judgements

        known = [line for line in read_judgements(self.path).values() if line["rater"] == self.rater]
        print(f"\n{len(known)} answers judged by {harmless(self.rater)}, kept in {self.path}")
        pairs = [(float(line["label"]), float(line["passed"])) for line in known if line["passed"] is not None]
        found = with_interval(pairs, kappa)
        if found.value is not None and found.low is not None and found.high is not None:
            print(f"kappa with the graders: {found.value:.2f} ({found.low:.2f} to {found.high:.2f}) on {found.n}")
