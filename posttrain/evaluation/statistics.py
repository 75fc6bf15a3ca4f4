"""The statistics of an evaluation under the name people look for. They live in core, because monitors, diagnosis and
benchmarks need the same ones and may import nothing but core."""

from posttrain.core.statistics import (
    Changes,
    Interval,
    Paired,
    Verdicts,
    best_of_n_kl,
    changes,
    interval,
    mcnemar,
    paired,
    pass_at_k,
    verdicts,
    wilson,
)

__all__ = [
    "Changes",
    "Interval",
    "Paired",
    "Verdicts",
    "best_of_n_kl",
    "changes",
    "interval",
    "mcnemar",
    "paired",
    "pass_at_k",
    "verdicts",
    "wilson",
]
