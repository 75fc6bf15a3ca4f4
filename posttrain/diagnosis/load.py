"""A run directory -> what the report and the comparison need of it.

Takes what is there: a run may be unfinished, killed in the middle of a line, or have lost a file. Nothing here raises for a
missing or broken file; `problems` says what could not be read, and the report shows it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from posttrain.core.errors import UserError
from posttrain.records.events import read_events
from posttrain.records.metrics import read_metrics
from posttrain.records.paths import STAGE_ID, RunPaths, StagePaths

if TYPE_CHECKING:
    from posttrain.records.rollouts import RolloutRecord

Value = TypeVar("Value")


@dataclass(frozen=True)
class StageView:
    """One stage as its records show it. `status` is `done`, `running`, `stopped`, `failed` or `waiting`."""

    id: str
    kind: str
    status: str
    wall_s: float | None
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    result: Mapping[str, Any]
    paths: StagePaths

    @property
    def evaluations(self) -> Mapping[str, Any]:
        found = self.result.get("evaluations")
        return found if isinstance(found, Mapping) else {}

    @property
    def parents(self) -> list[str]:
        """The references this stage reads: its model and teacher first, then data and tasks, then what it is judged by; each
        once."""
        named = [self.config.get(key) for key in ("model", "teacher")]
        for key in ("data", "tasks", "models", "adapters"):
            sources = self.config.get(key)
            for source in sources if isinstance(sources, list) else [sources]:
                named.append(source.get("source") if isinstance(source, Mapping) else source)
        named += [self.config.get(key) for key in ("critic_model", "critic_reward_model", "of", "before", "compare_to")]
        named += [grader.get("model") for grader in self.config.get("graders") or () if isinstance(grader, Mapping)]
        return list(dict.fromkeys(name for name in named if isinstance(name, str)))

    @cached_property
    def rollout_files(self) -> list[Path]:
        return sorted(self.paths.rollouts.glob("*.parquet"))


@dataclass(frozen=True)
class RunView:
    paths: RunPaths
    recipe: Mapping[str, Any]
    lineage: Mapping[str, Any]
    summary: Mapping[str, Any]
    stages: Sequence[StageView]
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.summary.get("name") or self.paths.name)

    @property
    def evaluations(self) -> list[StageView]:
        """Stages that measured something, in order."""
        return [stage for stage in self.stages if stage.evaluations]

    def rollouts(self, stage: StageView) -> list[RolloutRecord]:
        """All rollouts of a stage; a broken file is a problem, not an end."""
        return [record for file in stage.rollout_files for record in self.rollouts_of(file)]

    def rollouts_of(self, file: Path) -> list[RolloutRecord]:
        from posttrain.records.rollouts import read_rollouts

        return _attempt(lambda: list(read_rollouts(file)), file, self.problems) or []


def load_run(root: Path) -> RunView:
    """Raises UserError where `root` holds no run at all."""
    paths = RunPaths(root)
    if not (paths.recipe.is_file() or paths.summary.is_file() or paths.lineage.is_file()):
        raise UserError(
            f"{root} is not a run of posttrain: it has no recipe.yaml", fix="Give the folder of a run, such as runs/rlvr."
        )
    problems: list[str] = []
    recipe = _attempt(lambda: _mapping(YAML(typ="safe").load(paths.recipe)), paths.recipe, problems) or {}
    lineage = _attempt(lambda: _json(paths.lineage), paths.lineage, problems) or {}
    summary = _attempt(lambda: _json(paths.summary), paths.summary, problems) or {}
    told = {str(stage.get("id")): stage for stage in _list(summary, "stages")}
    planned = {str(stage.get("id")): stage for stage in _list(recipe, "stages")}
    ids = [name for name in {**planned, **told} if STAGE_ID.fullmatch(name)]
    stages = [_stage(paths.stage(name), name, planned.get(name, {}), told.get(name, {}), problems) for name in ids]
    return RunView(paths, recipe, lineage, summary, stages, problems)


def load_stage(directory: Path) -> StageView:
    """One stage's folder, without its run."""
    return _stage(StagePaths(directory), directory.name, {}, {}, [])


def _stage(paths: StagePaths, name: str, planned: Mapping[str, Any], told: Mapping[str, Any], problems: list[str]) -> StageView:
    config = _attempt(lambda: _mapping(YAML(typ="safe").load(paths.config)), paths.config, problems) or {}
    nested = planned.get("config")
    result = _attempt(lambda: _json(paths.result), paths.result, problems) or {}
    metrics = _attempt(lambda: read_metrics(paths.metrics), paths.metrics, problems) or []
    events = _attempt(lambda: read_events(paths.events), paths.events, problems) or []
    return StageView(
        id=name,
        kind=str(told.get("kind") or planned.get("kind") or result.get("kind") or config.get("kind") or "?"),
        status=_status(paths, told, events, metrics),
        wall_s=_seconds(result.get("wall_s")) or _seconds(told.get("wall_s")),
        config={**planned, **(nested if isinstance(nested, Mapping) else {}), **config},
        metrics=metrics,
        events=events,
        result=result or ({"evaluations": told["evaluations"]} if told.get("evaluations") else {}),
        paths=paths,
    )


def _status(
    paths: StagePaths, told: Mapping[str, Any], events: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]]
) -> str:
    """What the files prove wins over what the summary, which may be older, tells."""
    if paths.manifest.is_file():
        return "done"
    if told.get("status") in ("stopped", "failed"):
        return str(told["status"])
    last = events[-1].get("event") if events else None
    if last in ("stopped", "failed"):
        return str(last)
    return "running" if events or metrics else "waiting"


def records(stage: StageView) -> Iterator[RolloutRecord]:
    from posttrain.records.rollouts import read_rollouts

    return read_rollouts(stage.paths.rollouts)


def _attempt(read: Callable[[], Value], path: Path, problems: list[str]) -> Value | None:
    """The border where a broken record becomes a recorded problem."""
    if not path.exists():
        return None
    try:
        return read()
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        YAMLError,
    ) as error:  # pyarrow's errors are ValueError and OSError
        problems.append(f"{path.name} of {path.parent.name} could not be read: {str(error)[:200]}")
        return None


def _json(path: Path) -> Mapping[str, Any]:
    return _mapping(json.loads(path.read_text(encoding="utf-8")))


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("expected names and values")
    return value


def _list(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = value.get(key)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
