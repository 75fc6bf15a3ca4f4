"""reward_model: preferences -> encoded answers on disk -> training -> a reward model, and what it is worth on held-out pairs."""

from __future__ import annotations

from typing import Any

from posttrain import chat
from posttrain.core.config import RewardModelConfig
from posttrain.core.errors import PromiseBroken
from posttrain.core.order import item_at
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.models.load import Loaded
from posttrain.models.reward_model import RewardModel, new_reward_model, save_reward_model
from posttrain.records.files import saving
from posttrain.records.paths import StagePaths
from posttrain.stages.parts import base_reference, model_of, run_async
from posttrain.stages.preference_rows import encoded, hold_out_prompts
from posttrain.training.driver import drive, resume
from posttrain.training.reward_model import TrainedReward, reward_model, total_steps
from posttrain.training.reward_report import held_out_report, scale

SCALED_ON = 256
"""Preferences whose answers give the mean and the standard deviation that are saved with the model."""


def run(config: RewardModelConfig, context: StageContext) -> StageResult:
    paths, loaded = StagePaths(context.directory), model_of(config.model, context)
    reward, summary = train(config, context, loaded)
    with saving(paths.model) as folder:
        save_reward_model(reward, folder, base=base_reference(loaded.path, paths))
    return StageResult({"reward_model": paths.model}, summary)


def train(config: RewardModelConfig, context: StageContext, loaded: Loaded) -> tuple[RewardModel, dict[str, Any]]:
    """The trained reward model with its scale, and what it is worth."""
    paths, seed = StagePaths(context.directory), derive(context.seed, context.id)
    store, counts = encoded(config, context, chat.renderer(loaded.tokenizer))
    train, held_out = hold_out_prompts(store, config.validation, seed=derive(seed, "validation"))
    total = total_steps(config, len(train))
    reward = new_reward_model(loaded, config.lora, members=config.members, ensemble=config.ensemble, seed=seed)
    trained = TrainedReward(reward, config, total_steps=total, seed=seed)
    start = resume(trained, paths, context.reporter)
    loop = reward_model(trained, store, train, held_out, config, seed=seed, start=start.steps)
    history = run_async(drive(loop, trained, paths, config, start=start, total=total, reporter=context.reporter, stop=context.stop))
    some = [store[train[item_at(p, len(train), derive(seed, "scale"))]] for p in range(min(SCALED_ON, len(train)))]
    reward.mean, reward.std = scale(reward, some, config.micro_batch_tokens)
    if not all(std > 0 for std in reward.std):
        raise PromiseBroken(
            f"stage {context.id}: a member gives every answer the same score ({reward.mean}).", fix="Lower the learning_rate."
        )
    found = held_out_report(reward, [store[i] for i in held_out], config.micro_batch_tokens)
    measured = f"{found['accuracy']['value']:.1%} of {found['pairs']} held-out pairs in order" if found else "no pairs held out"
    context.reporter.say(f"{context.id}: {measured}")
    worth = {"held_out": found, "scale": {"mean": reward.mean, "std": reward.std}}
    return reward, {"steps": total, "loss": history[-1]["loss"], **counts, **worth}
