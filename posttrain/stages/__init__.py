"""One file per kind of stage: builds the parts, runs the loop, returns artefacts. The only place where all parts meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from posttrain.core.stage import StageContext, StageResult
from posttrain.stages import best_of_n, diagnose, evaluate, grpo, sft

KINDS: dict[str, Callable[[Any, StageContext], StageResult]] = {
    "sft": sft.run,
    "grpo": grpo.run,
    "best_of_n": best_of_n.run,
    "evaluate": evaluate.run,
    "diagnose": diagnose.run,
}
