"""From settings to graders that run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from posttrain.core.config import (
    FormatGrader,
    FunctionGrader,
    GraderConfig,
    InstructionGrader,
    LanguageGrader,
    LengthGrader,
    LookupGrader,
    MathGrader,
    RefusalGrader,
    RewardModelGrader,
)
from posttrain.core.errors import UserError
from posttrain.core.protocols import RewardScorer
from posttrain.core.types import Grade, Task
from posttrain.graders import (
    instruction_following,
    language_share,
    layout,
    lookup_answer,
    math_answer,
    refusal_phrases,
    reward_score,
    user_function,
    written_length,
)
from posttrain.graders.combine import Composite, Judge, Part, names
from posttrain.graders.processes import Pool

Result = TypeVar("Result")
NO_SCORERS: Mapping[str, RewardScorer] = {}


def prepare_math(config: MathGrader, base: Path) -> tuple[Judge, Pool | None]:
    pool = math_answer.pool(config)
    return (lambda task, text, written: math_answer.grade(config, pool, task, text)), pool


def prepare_function(config: FunctionGrader, base: Path) -> tuple[Judge, Pool | None]:
    pool = user_function.pool(config, base)
    return (lambda task, text, written: user_function.grade(config, pool, task, text)), pool


def prepare_lookup(config: LookupGrader, base: Path) -> tuple[Judge, Pool | None]:
    return at_once(lambda task, text, written: lookup_answer.grade(config, task, text)), None


def prepare_format(config: FormatGrader, base: Path) -> tuple[Judge, Pool | None]:
    return at_once(lambda task, text, written: layout.grade(config, text)), None


def prepare_language(config: LanguageGrader, base: Path) -> tuple[Judge, Pool | None]:
    language_share.check(config)
    return at_once(lambda task, text, written: language_share.grade(config, text)), None


def prepare_length(config: LengthGrader, base: Path) -> tuple[Judge, Pool | None]:
    return at_once(lambda task, text, written: written_length.grade(config, written)), None


def prepare_instruction(config: InstructionGrader, base: Path) -> tuple[Judge, Pool | None]:
    instruction_following.check(config)
    return at_once(lambda task, text, written: instruction_following.grade(config, task, text)), None


def prepare_refusal(config: RefusalGrader, base: Path) -> tuple[Judge, Pool | None]:
    return at_once(lambda task, text, written: refusal_phrases.grade(config, task, text)), None


GRADERS: dict[str, Callable[[Any, Path], tuple[Judge, Pool | None]]] = {
    "math": prepare_math,
    "lookup": prepare_lookup,
    "format": prepare_format,
    "language": prepare_language,
    "length": prepare_length,
    "refusal": prepare_refusal,
    "instruction": prepare_instruction,
    "function": prepare_function,
}


def prepared(config: GraderConfig, base: Path, scorers: Mapping[str, RewardScorer]) -> tuple[Judge, Pool | None]:
    """Ready to judge. A reward model is not made here: it is given, by the name that its settings use."""
    if not isinstance(config, RewardModelGrader):
        return GRADERS[config.kind](config, base)
    if (scorer := scorers.get(config.model)) is None:
        raise UserError(f"the reward model {config.model} was not given to its grader.", fix="Use it in a recipe's stage.")
    return (lambda task, text, written: reward_score.grade(config, scorer, task, text)), None


def at_once(judge: Callable[[Task, str, int | None], Grade]) -> Judge:
    async def judged(task: Task, text: str, written: int | None) -> Grade:
        return judge(task, text, written)

    return judged


def build(configs: Sequence[GraderConfig], *, base: Path, scorers: Mapping[str, RewardScorer] = NO_SCORERS) -> Composite:
    """The graders of a stage as one. Paths in `configs` are relative to `base`; `scorers` are the reward models they name.
    Raises UserError for files and settings that cannot work; starts no process."""
    if not configs:
        raise UserError("there are no graders.", fix="Name at least one, such as {kind: math}.")
    if all(config.gate or config.weight == 0 for config in configs):
        raise UserError(
            "every grader is a gate or has weight 0, so nothing gives a score.", fix="Give one grader a weight and no gate."
        )
    parts = []
    for name, config in zip(names(configs), configs, strict=True):
        judge, pool = prepared(config, base, scorers)
        parts.append(Part(name, config, judge, pool))
    return Composite(parts)


def grade_text(
    config: GraderConfig,
    task: Task,
    text: str,
    *,
    base: Path | None = None,
    written: int | None = None,
    scorers: Mapping[str, RewardScorer] = NO_SCORERS,
) -> Grade:
    """Grade one text, wherever we are called from (a script, a notebook's running event loop).

    `written` is how many tokens the text took, for the length grader; `base` is what a function's path is relative to.
    """
    name = names([config])[0]
    judge, pool = prepared(config, base or Path(), scorers)
    composite = Composite([Part(name, config, judge, pool)])
    try:
        return wait_for(lambda: judge(task, text, written))
    finally:
        composite.close()


def wait_for(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run async work to its end in an event loop of its own, on a thread of its own."""

    async def run() -> Result:
        return await work()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(lambda: asyncio.run(run())).result()
