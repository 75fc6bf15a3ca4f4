"""average: several models, or several adapters of one base -> one model, and for adapters one adapter of all their ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from posttrain.core.config import AverageConfig
from posttrain.core.faults import fault
from posttrain.core.stage import StageContext, StageResult
from posttrain.models.adapter_files import read_adapter, require_base, stacked
from posttrain.models.average import average_models, merge_adapters
from posttrain.models.load import resolve
from posttrain.models.tensors import Weights
from posttrain.records.files import saving
from posttrain.records.paths import StagePaths
from posttrain.stages.parts import base_reference


def run(config: AverageConfig, context: StageContext) -> StageResult:
    """Deterministic and without state: a stage that was killed is simply done again."""
    return merge(config, context) if config.adapters else average(config, context)


def average(config: AverageConfig, context: StageContext) -> StageResult:
    paths, shares = StagePaths(context.directory), config.shares()
    sources = [resolve(context.references[name]) for name in config.models]
    with saving(paths.model) as folder:
        distance = average_models(sources, shares, folder, each=counted(sources[0], context))
    context.reporter.finish()
    summary: dict[str, Any] = {
        "shares": dict(zip(config.models, shares, strict=True)),
        "distance": dict(zip(config.models, distance, strict=True)),
    }
    return StageResult({"model": paths.model}, summary)


def merge(config: AverageConfig, context: StageContext) -> StageResult:
    assert config.model is not None  # the settings see to it
    paths, shares = StagePaths(context.directory), config.shares()
    base = resolve(context.references[config.model])
    adapters = [read_adapter(Path(context.references[name])) for name in config.adapters]
    require_base(adapters, base)
    with saving(paths.adapter) as folder:
        stacked(adapters, shares, folder, base=base_reference(base, paths))
    with saving(paths.model) as folder:
        merge_adapters(base, adapters, shares, folder, each=counted(base, context))
    context.reporter.finish()
    summary: dict[str, Any] = {
        "shares": dict(zip(config.adapters, shares, strict=True)),
        "rank": sum(adapter.rank for adapter in adapters),
    }
    return StageResult({"model": paths.model, "adapter": paths.adapter}, summary)


def counted(source: Path, context: StageContext) -> Callable[[str], None]:
    """Progress, a tensor at a time."""
    context.reporter.start(context.id, sum(1 for _ in Weights(source)))

    def each(name: str) -> None:
        fault("average:tensor")
        context.reporter.advance(1)

    return each
