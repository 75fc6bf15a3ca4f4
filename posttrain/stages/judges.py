"""The models that a stage's judges ask: loaded or connected when it begins, with cache and budget, and closed at its end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from posttrain import chat
from posttrain.core.config import EvaluateConfig, GraderConfig, JudgeGrader, JudgeModel
from posttrain.core.protocols import ChatModel
from posttrain.core.stage import StageContext
from posttrain.generation.budget import Budgeted
from posttrain.generation.chat_model import LocalChat
from posttrain.generation.endpoint import Endpoint
from posttrain.generation.native import NativeEngine
from posttrain.graders.judge.trust import require_trust
from posttrain.graders.judge.verdict import readable
from posttrain.models.load import load
from posttrain.models.view import InferenceView
from posttrain.records.events import append_event
from posttrain.records.paths import StagePaths
from posttrain.records.replies import Remembered, kept_cost


@contextlib.asynccontextmanager
async def judge_models(
    configs: Sequence[GraderConfig], references: Mapping[str, str], replies: Path | None
) -> AsyncIterator[dict[str, ChatModel]]:
    """Every model that the judges among `configs` name, by that name; one that two judges share is made once, with the first's
    budget. `replies` is where answers are kept; None keeps nothing."""
    found: dict[str, ChatModel] = {}
    async with contextlib.AsyncExitStack() as stack:
        for config in [config for config in configs if isinstance(config, JudgeGrader)]:
            for each in config.models:
                if each.name in found:
                    continue
                model = await connected(each, references, stack)
                spent = kept_cost(replies, each.name) if replies is not None else (0, 0)
                limited = Budgeted(model, requests=config.max_requests, tokens=config.max_total_tokens, spent=spent)
                found[each.name] = limited if replies is None else Remembered(limited, each.name, replies, keep=readable)
        yield found


async def connected(each: JudgeModel, references: Mapping[str, str], stack: contextlib.AsyncExitStack) -> ChatModel:
    if each.endpoint is not None:
        return await stack.enter_async_context(Endpoint(each.endpoint))
    assert each.model is not None
    loaded = load(references.get(each.model, each.model))
    renderer = chat.renderer(loaded.tokenizer)
    engine = NativeEngine(InferenceView(loaded.model), renderer.decode, renderer.stop_ids)
    return LocalChat(engine, renderer, renderer.decode)


def require_trusted(configs: Sequence[GraderConfig], context: StageContext) -> None:
    """Stages that learn from grades refuse judges that nothing shows to be good; one accepted all the same is said and recorded.
    An evaluation may use any judge: its numbers are only as good as the judge, and nothing learns to please it."""
    settings = next((stage.config for stage in context.recipe.stages if stage.id == context.id), None)
    for config in configs:
        if not isinstance(config, JudgeGrader) or isinstance(settings, EvaluateConfig):
            continue
        if why := require_trust(config, context.references):
            text = f"an untrusted judge is accepted: {why}"
            append_event(StagePaths(context.directory).events, "warning", severity="warn", monitor="judge trust", text=text)
            context.reporter.say(f"judge trust: {text}")
