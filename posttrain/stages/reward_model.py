"""reward_model: preferences -> encoded answers on disk -> training -> a reward model, and what it is worth on held-out pairs."""

from __future__ import annotations

import json
import random
import shutil
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from posttrain import chat
from posttrain.core.config import RewardModelConfig
from posttrain.core.errors import PromiseBroken, UserError
from posttrain.core.order import item_at
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.types import Conversation, Message, Pair, Preference
from posttrain.data.decontaminate import Index
from posttrain.data.preference_store import Encoded, PreferenceStore, PreferenceStoreWriter
from posttrain.data.preferences import preferences
from posttrain.models.reward_model import new_reward_model, save_reward_model
from posttrain.records.files import saving, write_json
from posttrain.records.paths import StagePaths
from posttrain.records.summary import read_json
from posttrain.stages.parts import HERE, base_reference, model_of, run_async
from posttrain.stages.sft import evaluation_tasks
from posttrain.training.driver import drive, resume
from posttrain.training.reward_model import TrainedReward, reward_model, total_steps
from posttrain.training.reward_report import held_out_report, scale

SCALED_ON = 256
"""Preferences whose answers give the mean and the standard deviation that are saved with the model."""


@dataclass
class Counts:
    """What became of the preferences on their way to the store; `prompts` are distinct."""

    preferences: int = 0
    prompts: int = 0
    answers: int = 0
    pairs: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def run(config: RewardModelConfig, context: StageContext) -> StageResult:
    paths, seed = StagePaths(context.directory), derive(context.seed, context.id)
    loaded = model_of(config.model, context)
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
    with saving(paths.model) as folder:
        save_reward_model(reward, folder, base=base_reference(loaded.path, paths))
    found = held_out_report(reward, [store[i] for i in held_out], config.micro_batch_tokens)
    measured = f"{found['accuracy']['value']:.1%} of {found['pairs']} held-out pairs in order" if found else "no pairs held out"
    context.reporter.say(f"{context.id}: {measured}")
    summary = {
        "steps": total,
        "loss": history[-1]["loss"],
        **counts,
        "held_out": found,
        "scale": {"mean": reward.mean, "std": reward.std},
    }
    return StageResult({"reward_model": paths.model}, summary)


def encoded(
    config: RewardModelConfig, context: StageContext, renderer: chat.ChatRenderer
) -> tuple[PreferenceStore, dict[str, Any]]:
    """The stage's preferences as tokens on disk, made once; a resumed stage reads them again."""
    folder, counted = context.directory / "rows", context.directory / "rows.json"
    if not (folder.exists() and counted.exists()):
        source = preferences(config.data, references=context.references, base=HERE, seed=derive(context.seed, context.id, "mix"))
        index = Index(evaluation_tasks(context)) if config.decontaminate else None
        counts = Counts()
        shutil.rmtree(folder, ignore_errors=True)  # of a process killed before the counts were written
        with PreferenceStoreWriter(folder) as writer:
            prompts = {write(writer, each, index, renderer, config.max_length, counts) for each in source} - {None}
        counts.prompts = len(prompts)
        counts.dropped.update(source.skipped)
        write_json(counted, {**asdict(counts), "dropped": dict(counts.dropped)})
    found = read_json(counted)
    if not found["preferences"]:
        raise UserError(f"stage {context.id} has no pairs to train on (left out: {found['dropped']}).", fix="Check its data.")
    return PreferenceStore(folder), found


def write(
    writer: PreferenceStoreWriter, each: Preference, index: Index | None, renderer: chat.ChatRenderer, longest: int, counts: Counts
) -> int | None:
    """Encode one preference. Returns the number of its prompt, None if nothing of it is left to compare."""
    if index is not None and (match := index.match(Conversation((*each.prompt, *each.answers[0]), each.origin))) is not None:
        raise UserError(
            f"preferences hold an evaluation task: {match}",
            fix="Remove the row, or set decontaminate: false and say so with the results.",
        )
    answers = [conversation(renderer, each, answer) for answer in each.answers]
    fits = [len(tokens) <= longest for tokens, _ in answers]
    pairs = [pair for pair in each.pairs if fits[pair.better] and fits[pair.worse]]
    if left_out := len(each.pairs) - len(pairs):
        counts.dropped[f"pair with an answer over {longest} tokens"] += left_out
    if not pairs:
        return None
    used = sorted({number for pair in pairs for number in (pair.better, pair.worse)})
    place = {number: i for i, number in enumerate(used)}
    prompt = prompt_number(each.prompt)
    writer.append([answers[number] for number in used], [oriented(pair, place) for pair in pairs], prompt)
    counts.preferences += 1
    counts.answers += len(used)
    counts.pairs += len(pairs)
    return prompt


def conversation(renderer: chat.ChatRenderer, each: Preference, answer: Sequence[Message]) -> Encoded:
    """The whole conversation as the template writes it, to its last token, which is where it is scored."""
    try:
        return renderer.conversation((*each.prompt, *answer), context=len(each.prompt))
    except UserError as error:
        raise UserError(error.message, place=error.place or each.origin, fix=error.fix) from error


def oriented(pair: Pair, place: dict[int, int]) -> Pair:
    """The pair with the likelier better answer first, answers numbered as they are stored."""
    better, worse = place[pair.better], place[pair.worse]
    if pair.probability >= 0.5:
        return Pair(better, worse, pair.probability, pair.margin)
    return Pair(worse, better, 1 - pair.probability, None if pair.margin is None else -pair.margin)


def prompt_number(prompt: Sequence[Message]) -> int:
    return derive(0, json.dumps([(message.role, message.content) for message in prompt]))


def hold_out_prompts(store: PreferenceStore, share: float, *, seed: int) -> tuple[array[int], array[int]]:
    """Numbers of the preferences to train on and of those held out. A prompt is on one side with all its preferences: answers
    to a prompt that was trained on say little about other prompts."""
    prompts = sorted({store.prompt(i) for i in range(len(store))})
    count = min(len(prompts) - 1, max(1, round(share * len(prompts)))) if share else 0
    held = set(random.Random(seed).sample(prompts, count))
    sides: tuple[array[int], array[int]] = (array("q"), array("q"))
    for i in range(len(store)):
        sides[store.prompt(i) in held].append(i)
    return sides
