"""From settings to graders that run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from posttrain.core.config import (
    CodeGrader,
    FormatGrader,
    FunctionGrader,
    GraderConfig,
    InstructionGrader,
    JudgeGrader,
    LanguageGrader,
    LengthGrader,
    LookupGrader,
    MathGrader,
    RefusalGrader,
    RewardModelGrader,
)
from posttrain.core.errors import UserError
from posttrain.core.protocols import ChatModel, RewardScorer
from posttrain.core.types import Grade, Task
from posttrain.graders import (
    code_tests,
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
from posttrain.graders.combine import Closing, Composite, Judge, Part, names
from posttrain.graders.judge import pairs, rubric
from posttrain.graders.judge.panel import panel_of

Result = TypeVar("Result")
NO_SCORERS: Mapping[str, RewardScorer] = {}
NO_MODELS: Mapping[str, ChatModel] = {}


def prepare_math(config: MathGrader, base: Path) -> tuple[Judge, Closing | None]:
    pool = math_answer.pool(config)
    return (lambda task, text, written: math_answer.grade(config, pool, task, text)), pool


def prepare_function(config: FunctionGrader, base: Path) -> tuple[Judge, Closing | None]:
    pool = user_function.pool(config, base)
    return (lambda task, text, written: user_function.grade(config, pool, task, text)), pool


def prepare_code(config: CodeGrader, base: Path) -> tuple[Judge, Closing | None]:
    pool = code_tests.pool(config)
    return (lambda task, text, written: code_tests.grade(config, pool, task, text)), pool


def prepare_lookup(config: LookupGrader, base: Path) -> tuple[Judge, Closing | None]:
    return at_once(lambda task, text, written: lookup_answer.grade(config, task, text)), None


def prepare_format(config: FormatGrader, base: Path) -> tuple[Judge, Closing | None]:
    return at_once(lambda task, text, written: layout.grade(config, text)), None


def prepare_language(config: LanguageGrader, base: Path) -> tuple[Judge, Closing | None]:
    language_share.check(config)
    return at_once(lambda task, text, written: language_share.grade(config, text)), None


def prepare_length(config: LengthGrader, base: Path) -> tuple[Judge, Closing | None]:
    return at_once(lambda task, text, written: written_length.grade(config, written)), None


def prepare_instruction(config: InstructionGrader, base: Path) -> tuple[Judge, Closing | None]:
    instruction_following.check(config)
    return at_once(lambda task, text, written: instruction_following.grade(config, task, text)), None


def prepare_refusal(config: RefusalGrader, base: Path) -> tuple[Judge, Closing | None]:
    return at_once(lambda task, text, written: refusal_phrases.grade(config, task, text)), None


GRADERS: dict[str, Callable[[Any, Path], tuple[Judge, Closing | None]]] = {
    "math": prepare_math,
    "lookup": prepare_lookup,
    "format": prepare_format,
    "language": prepare_language,
    "length": prepare_length,
    "refusal": prepare_refusal,
    "instruction": prepare_instruction,
    "code": prepare_code,
    "function": prepare_function,
}


def part_of(
    name: str, config: GraderConfig, base: Path, scorers: Mapping[str, RewardScorer], chat_models: Mapping[str, ChatModel]
) -> Part:
    """Ready to judge. Models are not made here: they are given, by the names that the settings use."""
    if isinstance(config, JudgeGrader):
        panel = panel_of(config, chat_models)
        if config.compare == "group":
            return Part(name, config, alone, group=lambda task, texts: pairs.grade_group(panel, task, texts))
        grade = pairs.grade if config.compare else rubric.grade
        return Part(name, config, lambda task, text, written: grade(panel, task, text))
    judge, pool = prepared(config, base, scorers)
    return Part(name, config, judge, pool)


async def alone(task: Task, text: str, written: int | None) -> Grade:
    return Grade.error("this judge compares the answers of a group, and was given one alone")


def prepared(config: GraderConfig, base: Path, scorers: Mapping[str, RewardScorer]) -> tuple[Judge, Closing | None]:
    if not isinstance(config, RewardModelGrader):
        return GRADERS[config.kind](config, base)
    if (scorer := scorers.get(config.model)) is None:
        raise UserError(f"the reward model {config.model} was not given to its grader.", fix="Use it in a recipe's stage.")
    return (lambda task, text, written: reward_score.grade(config, scorer, task, text)), None


def at_once(judge: Callable[[Task, str, int | None], Grade]) -> Judge:
    async def judged(task: Task, text: str, written: int | None) -> Grade:
        return judge(task, text, written)

    return judged


def build(
    configs: Sequence[GraderConfig],
    *,
    base: Path,
    scorers: Mapping[str, RewardScorer] = NO_SCORERS,
    chat_models: Mapping[str, ChatModel] = NO_MODELS,
) -> Composite:
    """The graders of a stage as one. Paths in `configs` are relative to `base`; `scorers` are the reward models they name, and
    `chat_models` the judges.
    Raises UserError for files and settings that cannot work; starts no process."""
    if not configs:
        raise UserError("there are no graders.", fix="Name at least one, such as {kind: math}.")
    if all(config.gate or config.weight == 0 for config in configs):
        raise UserError(
            "every grader is a gate or has weight 0, so nothing gives a score.", fix="Give one grader a weight and no gate."
        )
    return Composite(
        [part_of(name, config, base, scorers, chat_models) for name, config in zip(names(configs), configs, strict=True)]
    )


def grade_text(
    config: GraderConfig,
    task: Task,
    text: str,
    *,
    base: Path | None = None,
    written: int | None = None,
    scorers: Mapping[str, RewardScorer] = NO_SCORERS,
    chat_models: Mapping[str, ChatModel] = NO_MODELS,
) -> Grade:
    """Grade one text, wherever we are called from (a script, a notebook's running event loop).

    `written` is how many tokens the text took, for the length grader; `base` is what a function's path is relative to.
    """
    name = names([config])[0]
    part = part_of(name, config, base or Path(), scorers, chat_models)
    composite = Composite([part])
    try:
        return wait_for(lambda: part.judge(task, text, written))
    finally:
        composite.close()


def wait_for(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run async work to its end in an event loop of its own, on a thread of its own."""

    async def run() -> Result:
        return await work()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(lambda: asyncio.run(run())).result()
