"""dpo: preferences -> encoded answers on disk -> the reference's log-probs beside them -> training -> model and adapter."""

from __future__ import annotations

import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from posttrain import chat
from posttrain.core.config import DpoConfig
from posttrain.core.errors import Interrupted, UserError
from posttrain.core.faults import fault
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.types import Conversation, Pair, Preference
from posttrain.data.decontaminate import Index
from posttrain.data.preference_store import PreferenceStore, PreferenceStoreWriter
from posttrain.data.preferences import EQUAL, preferences
from posttrain.records.files import write_atomic, write_json
from posttrain.records.paths import StagePaths
from posttrain.records.summary import read_json
from posttrain.stages.parts import HERE, model_of, run_async, save_policy
from posttrain.stages.reward_model import conversation, hold_out_prompts, oriented, prompt_number
from posttrain.stages.sft import evaluation_tasks
from posttrain.training.dpo import Answer, Compared, dpo, mismatch, objective, row_sums, total_steps, without_formatting
from posttrain.training.driver import drive, resume
from posttrain.training.policy import Policy

CHUNK = 256
"""Preferences whose reference log-probs are computed and kept at a time."""


@dataclass
class Counts:
    """What became of the preferences on their way to the store; of KTO's labels, `desirable` and `undesirable` too."""

    preferences: int = 0
    answers: int = 0
    pairs: int = 0
    desirable: int = 0
    undesirable: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def run(config: DpoConfig, context: StageContext) -> StageResult:
    paths, seed = StagePaths(context.directory), derive(context.seed, context.id)
    loaded = model_of(config.model, context)
    renderer = chat.renderer(loaded.tokenizer)
    store, counts = encoded(config, context, renderer)
    train, held_out = hold_out_prompts(store, config.validation, seed=derive(seed, "validation"))
    total = total_steps(config, len(train))
    policy = Policy(loaded, config, total_steps=total, seed=seed)
    data = Referenced(store, frozenset(renderer.stop_ids if config.mask_formatting else ()), mismatched=config.loss == "kto")
    if objective(config).method.reference:
        data.add_reference(policy, config, context)  # before a checkpoint is loaded: the policy is still its own reference
    start = resume(policy, paths, context.reporter)
    loop = dpo(policy, data, train, held_out, config, seed=seed, start=start.steps)
    work = drive(loop, policy, paths, config, start=start, total=total, reporter=context.reporter, stop=context.stop)
    history = run_async(work)
    artefacts = save_policy(policy, loaded.path, paths)
    names = ("loss", "accuracy", "rewards/margin", "accuracy/validation")
    last = {name: history[-1][name] for name in names if name in history[-1]}
    return StageResult(artefacts, {"steps": total, "method": config.loss, **last, **counts})


class Referenced:
    """A store's preferences as the loop wants them: formatting left out, the reference's log-probs and KTO's mismatched answers
    beside them. Numbers of answers are the store's."""

    def __init__(self, store: PreferenceStore, formatting: frozenset[int], *, mismatched: bool) -> None:
        self.store, self.formatting = store, formatting
        self.others = next_prompts(store) if mismatched else array("q")
        self.reference, self.mismatched_reference = array("f"), array("f")

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Compared:
        own, numbers = self.plain(index), self.store.numbers(index)
        if not self.reference:
            return own
        reference = self.reference[numbers.start : numbers.stop]
        if not self.others:
            return replace(own, reference=reference)
        others = self.mismatched(index).answers
        of_others = self.mismatched_reference[numbers.start : numbers.stop]
        return replace(own, reference=reference, mismatched=others, mismatched_reference=of_others)

    def plain(self, index: int) -> Compared:
        found = self.store[index]
        answers = [Answer(tokens, mask) for tokens, mask in zip(found.rows, found.masks, strict=True)]
        if self.formatting:
            answers = [without_formatting(answer, self.formatting) for answer in answers]
        return Compared(answers, found.pairs, found.labels)

    def mismatched(self, index: int) -> Compared:
        """The prompt with the answers of the next other prompt in the store: a fixed partner, so that the reference is computed
        once, where the paper pairs within a batch. Over a shuffled epoch each answer is still used about once."""
        return Compared(mismatch(self.plain(index).answers, self.plain(self.others[index]).answers), ())

    def add_reference(self, policy: Policy, config: DpoConfig, context: StageContext) -> None:
        """Compute what is not on the disk yet, a chunk at a time, and read all of it."""
        self.reference = kept(policy, "answers", self.plain, len(self), config, context)
        if self.others:
            self.mismatched_reference = kept(policy, "mismatched", self.mismatched, len(self), config, context)


def kept(
    policy: Policy, name: str, element: Callable[[int], Compared], count: int, config: DpoConfig, context: StageContext
) -> array[float]:
    """One log-prob an answer, under the policy as it stands, from files that outlive a killed process."""
    folder, values = context.directory / "reference", array("f")
    folder.mkdir(parents=True, exist_ok=True)
    context.reporter.start(f"{context.id} reference ({name})", count)
    for start in range(0, count, CHUNK):
        path = folder / f"{name}-{start:06d}.f32"
        chunk = range(start, min(start + CHUNK, count))
        if not path.exists():
            if context.stop:
                raise Interrupted(
                    f"{context.id} stopped; what was scored is kept.", signal=context.stop.signal, fix="Run again to go on."
                )
            elements = [element(index) for index in chunk]
            sums = row_sums(lambda batch: policy.score(batch).logprobs_L, elements, config.micro_batch_tokens, policy.device)
            write_atomic(path, array("f", (value for row in sums for value in row)).tobytes())
            fault("reference:chunk")
        values.frombytes(path.read_bytes())
        context.reporter.advance(len(chunk))
    context.reporter.finish()
    return values


def next_prompts(store: PreferenceStore) -> array[int]:
    """For each preference the number of the next one, in a circle, that has another prompt."""
    count = len(store)
    prompts = [store.prompt(index) for index in range(count)]
    if len(set(prompts)) < 2:
        raise UserError("kto needs at least two different prompts, to estimate its KL.", fix="Add preferences, or use loss: dpo.")
    found = array("q", [0]) * count
    other = next(index for index in range(count) if prompts[index] != prompts[-1])
    for index in range(count - 1, -1, -1):
        following = (index + 1) % count
        other = following if prompts[following] != prompts[index] else other
        found[index] = other
    return found


def encoded(config: DpoConfig, context: StageContext, renderer: chat.ChatRenderer) -> tuple[PreferenceStore, dict[str, Any]]:
    """The stage's preferences as tokens on disk, made once; a resumed stage reads them again."""
    folder, counted = context.directory / "rows", context.directory / "rows.json"
    if not (folder.exists() and counted.exists()):
        write_store(folder, counted, config, context, renderer)
    found = read_json(counted)
    if not found["preferences"]:
        left_out = f"left out: {found['dropped']}"
        raise UserError(f"stage {context.id} has no preferences to learn from ({left_out}).", fix="Check its data.")
    if config.loss == "kto" and not (found["desirable"] and found["undesirable"]):
        missing = "desirable" if found["undesirable"] else "undesirable"
        raise UserError(f"stage {context.id}: no answer is {missing}; kto learns from both kinds.", fix="Add some.")
    return PreferenceStore(folder), found


def write_store(folder: Path, counted: Path, config: DpoConfig, context: StageContext, renderer: chat.ChatRenderer) -> None:
    source = preferences(
        config.data,
        references=context.references,
        base=HERE,
        seed=derive(context.seed, context.id, "mix"),
        unpaired=config.loss == "kto",
    )
    index = Index(evaluation_tasks(context)) if config.decontaminate else None
    counts = Counts()
    shutil.rmtree(folder, ignore_errors=True)  # of a process killed before the counts were written
    with PreferenceStoreWriter(folder) as writer:
        for each in source:
            require_clean(each, index)
            write(writer, each, renderer, config.max_length, counts)
    counts.dropped.update(source.skipped)
    write_json(counted, {**asdict(counts), "dropped": dict(counts.dropped)})
    if counts.preferences:
        shown = PreferenceStore(folder)[0]
        context.reporter.say(chat.preview(shown.rows[0], shown.masks[0], renderer))


def require_clean(each: Preference, index: Index | None) -> None:
    """UserError if a preference holds a task of an evaluation."""
    for answer in each.answers if index is not None else ():
        match = index.match(Conversation((*each.prompt, *answer), each.origin)) if index is not None else None
        if match is not None:
            raise UserError(
                f"preferences hold an evaluation task: {match}",
                fix="Remove the row, or set decontaminate: false and say so with the results.",
            )


def write(writer: PreferenceStoreWriter, each: Preference, renderer: chat.ChatRenderer, longest: int, counts: Counts) -> None:
    """Encode one preference, without answers that are too long or have nothing that counts."""
    answers = {number: conversation(renderer, each, each.answers[number]) for number in sorted(compared(each))}
    why = {number: unfit(tokens, mask, longest) for number, (tokens, mask) in answers.items()}
    reasons = [why[p.better] or why[p.worse] or EQUAL * (answers[p.better] == answers[p.worse]) for p in each.pairs]
    counts.dropped.update(reason for reason in (reasons if each.pairs else why.values()) if reason)
    pairs = [pair for pair, reason in zip(each.pairs, reasons, strict=True) if not reason]
    left = sorted(sides(pairs) if each.pairs else (number for number in answers if not why[number]))
    if not left:
        return
    place = {number: i for i, number in enumerate(left)}
    labels = [] if each.pairs else [each.labels[number] for number in left]
    encoded_answers = [answers[number] for number in left]
    writer.append(encoded_answers, [oriented(pair, place) for pair in pairs], prompt_number(each.prompt), labels)
    counts.preferences += 1
    counts.answers += len(left)
    counts.pairs += len(pairs)
    counts.desirable += sum(labels) + len(pairs)
    counts.undesirable += len(labels) - sum(labels) + len(pairs)


def sides(pairs: Iterable[Pair]) -> set[int]:
    return {side for pair in pairs for side in (pair.better, pair.worse)}


def compared(each: Preference) -> Iterable[int]:
    """The answers that stand in a pair; all of them where they have labels instead."""
    return sides(each.pairs) if each.pairs else range(len(each.answers))


def unfit(tokens: array[int], mask: array[int], longest: int) -> str:
    if len(tokens) > longest:
        return f"over {longest} tokens"
    return "" if any(mask) else "nothing that counts"
