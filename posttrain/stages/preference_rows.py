"""Preferences -> encoded answers on disk, as reward models and DPO learn from them; and the split by prompt.

A preference is written with the answers that its pairs compare. What does not fit or cannot teach is left out and counted;
what holds a task of an evaluation ends the stage.
"""

from __future__ import annotations

import json
import random
import shutil
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from posttrain import chat
from posttrain.core.config import DpoConfig, RewardModelConfig
from posttrain.core.errors import UserError
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext
from posttrain.core.types import Conversation, Message, Pair, Preference
from posttrain.data.decontaminate import Index
from posttrain.data.preference_store import Encoded, PreferenceStore, PreferenceStoreWriter
from posttrain.data.preferences import EQUAL, preferences
from posttrain.records.files import write_json
from posttrain.records.summary import read_json
from posttrain.stages.parts import HERE
from posttrain.stages.sft import evaluation_tasks


@dataclass
class Counts:
    """What became of the preferences on their way to the store; `prompts` are distinct."""

    preferences: int = 0
    prompts: int = 0
    answers: int = 0
    pairs: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def encoded(
    config: DpoConfig | RewardModelConfig, context: StageContext, renderer: chat.ChatRenderer, *, unpaired: bool = False
) -> tuple[PreferenceStore, dict[str, Any]]:
    """The stage's preferences as tokens on disk, made once; a resumed stage reads them again. `unpaired` takes labels too."""
    folder, counted = context.directory / "rows", context.directory / "rows.json"
    if not (folder.exists() and counted.exists()):
        seed = derive(context.seed, context.id, "mix")
        source = preferences(config.data, references=context.references, base=HERE, seed=seed, unpaired=unpaired)
        index = Index(evaluation_tasks(context)) if config.decontaminate else None
        counts, prompts = Counts(), set()
        shutil.rmtree(folder, ignore_errors=True)  # of a process killed before the counts were written
        with PreferenceStoreWriter(folder) as writer:
            for each in source:
                require_clean(each, index)
                if write(writer, each, renderer, config.max_length, counts):
                    prompts.add(prompt_number(each.prompt))
        counts.prompts = len(prompts)
        counts.dropped.update(source.skipped)
        write_json(counted, {**asdict(counts), "dropped": dict(counts.dropped)})
        if counts.preferences:
            shown = PreferenceStore(folder)[0]
            context.reporter.say(chat.preview(shown.rows[0], shown.masks[0], renderer))
    found = read_json(counted)
    if not found["preferences"]:
        left_out = f"left out: {found['dropped']}"
        raise UserError(f"stage {context.id} has no preferences to learn from ({left_out}).", fix="Check its data.")
    return PreferenceStore(folder), found


def require_clean(each: Preference, index: Index | None) -> None:
    """UserError if a preference holds a task of an evaluation."""
    for answer in each.answers if index is not None else ():
        match = index.match(Conversation((*each.prompt, *answer), each.origin)) if index is not None else None
        if match is not None:
            raise UserError(
                f"preferences hold an evaluation task: {match}",
                fix="Remove the row, or set decontaminate: false and say so with the results.",
            )


def write(writer: PreferenceStoreWriter, each: Preference, renderer: chat.ChatRenderer, longest: int, counts: Counts) -> bool:
    """Encode one preference, without answers that are too long or have nothing that counts. False if nothing of it is left."""
    answers = {number: conversation(renderer, each, each.answers[number]) for number in sorted(compared(each))}
    why = {number: unfit(tokens, mask, longest) for number, (tokens, mask) in answers.items()}
    reasons = [why[p.better] or why[p.worse] or EQUAL * (answers[p.better] == answers[p.worse]) for p in each.pairs]
    counts.dropped.update(reason for reason in (reasons if each.pairs else why.values()) if reason)
    pairs = [pair for pair, reason in zip(each.pairs, reasons, strict=True) if not reason]
    left = sorted(sides(pairs) if each.pairs else (number for number in answers if not why[number]))
    if not left:
        return False
    place = {number: i for i, number in enumerate(left)}
    labels = [] if each.pairs else [each.labels[number] for number in left]
    kept = [answers[number] for number in left]
    writer.append(kept, [oriented(pair, place) for pair in pairs], prompt_number(each.prompt), labels)
    counts.preferences += 1
    counts.answers += len(left)
    counts.pairs += len(pairs)
    return True


def sides(pairs: Iterable[Pair]) -> set[int]:
    return {side for pair in pairs for side in (pair.better, pair.worse)}


def compared(each: Preference) -> Iterable[int]:
    """The answers that stand in a pair; all of them where they have labels instead."""
    return sides(each.pairs) if each.pairs else range(len(each.answers))


def unfit(tokens: array[int], mask: array[int], longest: int) -> str:
    if len(tokens) > longest:
        return f"over {longest} tokens"
    return "" if any(mask) else "nothing that counts"


def conversation(renderer: chat.ChatRenderer, each: Preference, answer: Sequence[Message]) -> Encoded:
    """The whole conversation as the template writes it, to its last token, which is where a reward model scores it."""
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
    of: tuple[array[int], array[int]] = (array("q"), array("q"))
    for i in range(len(store)):
        of[store.prompt(i) in held].append(i)
    return of
