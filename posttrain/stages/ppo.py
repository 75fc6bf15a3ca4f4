"""ppo: tasks and graders, a policy and its critic -> rounds of sampling and training -> model and adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain import chat
from posttrain.core.config import PpoConfig, SftConfig
from posttrain.core.errors import UserError
from posttrain.core.protocols import Grader
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.types import Task
from posttrain.models.heads import ScalarHead
from posttrain.models.load import Loaded, load
from posttrain.models.reward_model import load_reward_model
from posttrain.models.sibling import sibling
from posttrain.models.tokenizers import differs
from posttrain.records.paths import StagePaths
from posttrain.rollouts.environment import World
from posttrain.stages.parts import grading, model_of, playing, run_async, sampler, save_policy, tasks_of
from posttrain.stages.rounds import Rounds, drive_rounds, first_and_last, watcher
from posttrain.stages.sft import encoded
from posttrain.training.actor_critic import ActorCritic, Critic
from posttrain.training.driver import resume
from posttrain.training.policy import Policy
from posttrain.training.ppo import Mixed, ppo


def run(config: PpoConfig, context: StageContext) -> StageResult:
    return run_async(_run(config, context))


async def _run(config: PpoConfig, context: StageContext) -> StageResult:
    tasks, loaded = tasks_of(config.tasks, context), model_of(config.model, context)
    judges = grading(config.graders, tasks, context, tokenizer=loaded.tokenizer, environment=config.environment)
    async with playing(config.environment) as world, judges as grader:
        policy, history, counts = await train(config, context, loaded, tasks, grader, world)
    artefacts = save_policy(policy, loaded.path, StagePaths(context.directory))
    measured = first_and_last(history, reward="reward/mean", passed="passed", explained_variance="value/explained_variance")
    return StageResult(artefacts, {"steps": config.steps, **measured, **({"ptx": counts} if counts else {})})


async def train(
    config: PpoConfig, context: StageContext, loaded: Loaded, tasks: Sequence[Task], grader: Grader, world: World | None = None
) -> tuple[Policy, list[dict[str, Any]], dict[str, Any]]:
    """The trained policy, the metrics of all steps, and what became of the rows of PPO-ptx."""
    paths, seed = StagePaths(context.directory), derive(context.seed, context.id)
    renderer = chat.renderer(loaded.tokenizer)
    mixed, counts = mixed_rows(config, context, renderer, seed)
    policy = Policy(loaded, config, total_steps=config.updates, seed=seed, reference=config.kl.coefficient > 0)
    trained = ActorCritic(policy, critic_of(policy, config, context.references, seed))
    start = resume(trained, paths, context.reporter)
    engine = sampler(policy.view, renderer)
    source = Rounds(config, tasks, engine, renderer, grader, seed, world)
    loop = ppo(trained, engine, source.collect, config, mixed, seed=seed, start=start.steps, state=start.state)
    return policy, await drive_rounds(loop, trained, config, context, start, watcher(config)), counts


def critic_of(policy: Policy, config: PpoConfig, references: Mapping[str, str], seed: int) -> Critic:
    """A critic from the policy's own start, from another model, or from a reward model with its head."""
    head: ScalarHead | None = None
    source = policy.model
    if config.critic_reward_model is not None:
        reward = load_reward_model(references[config.critic_reward_model], device=policy.device)
        require_vocabulary(reward.tokenizer, policy, "critic_reward_model", config.critic_reward_model)
        source, found = reward.members[0].model, reward.members[0].head.weight.detach()
        head = ScalarHead(found.shape[1], seed=0)
        head.weight.data.copy_(found.float().mean(0, keepdim=True))  # of several heads, their mean
    elif config.critic_model is not None:
        own = load(references[config.critic_model], device=policy.device)
        require_vocabulary(own.tokenizer, policy, "critic_model", config.critic_model)
        source = own.model.requires_grad_(False)
    body = sibling(source, config.critic_lora, seed=derive(seed, "critic"))
    return Critic(body, config, total_steps=config.updates, head=head)


def require_vocabulary(known: Any, policy: Policy, setting: str, reference: str) -> None:
    """The critic reads the policy's tokens as they are, so both must mean the same by every number."""
    if difference := differs(policy.tokenizer, known):
        raise UserError(
            f"{setting} {reference!r} has another tokenizer than the policy, whose tokens it would have to read: {difference}.",
            fix="Use a model of the same family, or leave it out: the critic then starts from the policy.",
        )


def mixed_rows(
    config: PpoConfig, context: StageContext, renderer: chat.ChatRenderer, seed: int
) -> tuple[Mixed | None, dict[str, Any]]:
    """The rows of PPO-ptx, encoded as the stage `sft` encodes its own, and what became of them."""
    if not config.ptx or config.ptx_coefficient == 0:
        return None, {}
    rows = SftConfig(data=config.ptx, max_length=config.ptx_max_length, decontaminate=config.decontaminate)
    store, counts = encoded(rows, context, renderer)
    return Mixed(store, config.ptx_batch_size, derive(seed, "ptx")), counts
