"""Everything that can be found wrong with a recipe before it runs, and what running it would take. Imports no torch.

Reads the first rows of data files, asks each grader to prove itself on a few tasks (`prove`, given by the caller: graders
are not this layer's), looks whether models are there, and estimates time, memory and disk.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from posttrain.core.config import (
    DataSource,
    DiagnoseConfig,
    EnvironmentConfig,
    GraderConfig,
    JudgeGrader,
    PreferenceSource,
    Recipe,
    Stage,
    TaskSource,
    TextSource,
)
from posttrain.core.config.base import is_path
from posttrain.core.errors import EnvironmentFailed, UserError
from posttrain.core.types import Task
from posttrain.pipeline import context, order
from posttrain.pipeline.estimate import Estimate, estimate, total
from posttrain.pipeline.judges import require_judges
from posttrain.pipeline.models import require_adapter, require_model, require_scalar
from posttrain.pipeline.order import WRITES, Locate, nowhere
from posttrain.pipeline.references import inner_settings, is_builtin, is_run, references, run_stage
from posttrain.pipeline.validate import combined
from posttrain.records.files import free_space

if TYPE_CHECKING:
    from posttrain.data import Description

Prove = Callable[[Sequence[GraderConfig], Sequence[Task]], None]
FEW = 3


@dataclass(frozen=True)
class Report:
    """What `check` found: nothing wrong, remarks to read, one line and one estimate a stage."""

    recipe: Recipe
    plan: list[str]
    remarks: list[str]
    estimates: list[Estimate | None]
    free: int

    @property
    def whole(self) -> Estimate | None:
        return total(self.estimates)


class Findings:
    """What is wrong and what is worth a remark; each thing once, however many stages share it."""

    def __init__(self) -> None:
        self.errors: list[UserError] = []
        self.remarks: list[str] = []

    @contextlib.contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Collect an error of the block, at `place` where it names none itself."""
        try:
            yield
        except UserError as error:
            error.place = error.place or place
            if str(error) not in [str(known) for known in self.errors]:
                self.errors.append(error)

    def remark(self, text: str) -> None:
        if text and text not in self.remarks:
            self.remarks.append(text)


def check(recipe: Recipe, runs: Path, *, locate: Locate = nowhere, prove: Prove | None = None) -> Report:
    """Raise UserError with all that is wrong, or say what would happen."""
    order.verify(recipe, locate)
    findings = Findings()
    with findings.at(""):
        findings.remark(_model(recipe.model, runs))
    for index, stage in enumerate(recipe.stages):
        _references(recipe, index, runs, locate, findings)
        _inputs(recipe, index, locate, prove, findings)
        findings.remark(_unused(stage, recipe))
    for index, setting, error in context.problems(recipe):
        with findings.at(locate(index, setting)[0]):
            raise error
    if findings.errors:
        raise combined(findings.errors)
    if recipe.executor == "cluster":
        findings.remark(f"scale {recipe.scale!r} asks for a cluster, for which there is no executor yet: `run` refuses it")
    report = Report(recipe, [stage.config.plan() for stage in recipe.stages], findings.remarks, estimate(recipe), free_space(runs))
    if report.whole is not None and report.whole.disk > report.free:
        findings.remark(
            f"the disk has {size(report.free)} free, less than the estimate of {size(report.whole.disk)}: `run` refuses it"
        )
    return report


def require_space(report: Report) -> None:
    """Refuse to begin what will most likely fill the disk."""
    if report.whole is not None and report.whole.disk > report.free:
        text = f"the disk has {size(report.free)} free; the recipe needs about {size(report.whole.disk)}."
        raise EnvironmentFailed(text, fix="Free some space, or choose another --runs.")


def _references(recipe: Recipe, index: int, runs: Path, locate: Locate, findings: Findings) -> None:
    """Models and finished stages of other runs that the stage names are there."""
    ids = ["base", *(stage.id for stage in recipe.stages)]
    for reference in references(recipe.stages[index].config):
        with findings.at(locate(index, *reference.keys)[0]):
            if reference.role in ("model", "reward_model") and reference.text not in ids:
                findings.remark(_model(reference.text, runs))
                if reference.role == "reward_model":
                    require_scalar(reference.text)
            elif reference.role == "adapter" and is_path(reference.text):
                require_adapter(Path(reference.text))
            elif is_run(reference.text):
                run_stage(reference.text, runs)


def _model(reference: str, runs: Path) -> str:
    if is_run(reference):
        run_stage(reference, runs)
        return ""
    return require_model(reference)


def _inputs(recipe: Recipe, index: int, locate: Locate, prove: Prove | None, findings: Findings) -> None:
    """The first rows of data can be read, and graders prove themselves on the first tasks."""
    stage = recipe.stages[index]
    config = stage.config
    tasks: list[Task] = []
    for source, keys in inner_settings(config):
        with findings.at(locate(index, *keys)[0]):
            if isinstance(source, DataSource):
                findings.remark(_rows(source, stage))
            elif isinstance(source, TextSource):
                _text(source)
            elif isinstance(source, PreferenceSource):
                _pairs(source, stage)
            elif isinstance(source, JudgeGrader):
                findings.remark(require_judges(recipe, stage, source))
            elif isinstance(source, TaskSource) and keys[0] in ("tasks", "suites"):
                tasks += _tasks(source, recipe)
    environment: EnvironmentConfig | None = getattr(config, "environment", None)
    if environment is not None:
        with findings.at(locate(index, "environment")[0]):
            _environment(environment)
    graders: Sequence[GraderConfig] = getattr(config, "graders", ())
    if prove is not None and tasks and graders:
        with findings.at(locate(index, "graders")[0]):
            prove(graders, tasks)


def _environment(config: EnvironmentConfig) -> None:
    """Make its factory: its files are there, and what it needs is installed. No episode begins."""
    from posttrain.environments import build
    from posttrain.graders.build import wait_for

    wait_for(build(config, base=Path()).aclose)


def _rows(source: DataSource, stage: Stage) -> str:
    """Read the first rows of a source and say what they are."""
    from posttrain.data import describe, examples

    if not (is_path(source.source) or is_builtin(source.source)):
        return ""
    some = source if is_path(source.source) else replace(source, count=FEW)
    remark = _described(describe(Path(source.source))) if is_path(source.source) else ""
    list(itertools.islice(examples([some], references={}, base=Path(), seed=0), FEW))
    return f"{stage.id}: {remark}" if remark else ""


def _text(source: TextSource) -> None:
    """Find a first document in a source that is there already."""
    from posttrain.data.raw_text import texts

    if is_path(source.source) or is_builtin(source.source):
        found = texts(source, references={}, base=Path(), seed=0)
        if not source.optional:
            next(found.train())


def _pairs(source: PreferenceSource, stage: Stage) -> None:
    """Read the first rows of a file of preferences."""
    from posttrain.data.preferences import preferences

    if is_path(source.source) or is_builtin(source.source):
        unpaired = getattr(stage.config, "loss", "") == "kto"
        list(itertools.islice(preferences([source], references={}, base=Path(), seed=0, unpaired=unpaired), FEW))


def _described(file: Description) -> str:
    about = "about " if file.estimated else ""
    return f"{file.path.name} holds {about}{file.rows:,} rows of format {file.format} (columns {', '.join(file.columns)})"


def _tasks(source: TaskSource, recipe: Recipe) -> list[Task]:
    """The first tasks of a source that is there already."""
    from posttrain.data.tasks import load_tasks

    if not (is_path(source.source) or is_builtin(source.source)):
        return []
    return load_tasks([replace(source, count=FEW)], references={}, base=Path(), seed=recipe.seed)


def _unused(stage: Stage, recipe: Recipe) -> str:
    """A remark where a stage's work is used by nobody, which is mostly a forgotten reference."""
    made = (
        stage.config.writes() - {"evaluation", "tasks", "adapter"} if not isinstance(stage.config, DiagnoseConfig) else frozenset()
    )
    users = [other.id for other in recipe.stages if any(reference.text == stage.id for reference in references(other.config))]
    return (
        f"{stage.id} writes {' and '.join(WRITES[role] for role in sorted(made))} that no other stage uses"
        if made and not users
        else ""
    )


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
