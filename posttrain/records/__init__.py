"""The run directory: its paths, its files, how each is written so that a kill, a full disk or a second run loses nothing."""

from posttrain.records.files import (
    commit_directory,
    free_space,
    prune,
    saving,
    tidy,
    verify,
    write_atomic,
    write_json,
    write_manifest,
)
from posttrain.records.metrics import MetricsWriter, read_metrics
from posttrain.records.paths import RunPaths, StagePaths

__all__ = [
    "MetricsWriter",
    "RunPaths",
    "StagePaths",
    "commit_directory",
    "free_space",
    "prune",
    "read_metrics",
    "saving",
    "tidy",
    "verify",
    "write_atomic",
    "write_json",
    "write_manifest",
]
