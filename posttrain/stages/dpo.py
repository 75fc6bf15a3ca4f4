"""dpo: preferences -> encoded answers on disk -> the reference's log-probs beside them -> training -> model and adapter."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from posttrain import chat
from posttrain.core.config import DpoConfig
from posttrain.core.errors import Interrupted, UserError
from posttrain.core.faults import fault
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.data.preference_store import PreferenceStore
from posttrain.models.load import Loaded
from posttrain.records.files import write_atomic
from posttrain.records.paths import StagePaths
from posttrain.stages.parts import model_of, run_async, save_policy
from posttrain.stages.preference_rows import encoded, hold_out_prompts
from posttrain.training.dpo import Answer, Compared, dpo, mismatch, objective, row_sums, total_steps, without_formatting
from posttrain.training.driver import drive, resume
from posttrain.training.policy import Policy

CHUNK = 256
"""Preferences whose reference log-probs are computed and kept at a time."""


def run(config: DpoConfig, context: StageContext) -> StageResult:
    loaded = model_of(config.model, context)
    policy, _, summary = train(config, context, loaded)
    return StageResult(save_policy(policy, loaded.path, StagePaths(context.directory)), summary)


def train(config: DpoConfig, context: StageContext, loaded: Loaded) -> tuple[Policy, list[dict[str, Any]], dict[str, Any]]:
    """The trained policy, the metrics of all steps, and what came of the last step."""
    paths, seed = StagePaths(context.directory), derive(context.seed, context.id)
    renderer = chat.renderer(loaded.tokenizer)
    store, counts = encoded(config, context, renderer, unpaired=config.loss == "kto")
    if config.loss == "kto":
        require_both_kinds(store, context)
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
    names = ("loss", "accuracy", "rewards/margin", "accuracy/validation")
    last = {name: history[-1][name] for name in names if name in history[-1]}
    return policy, history, {"steps": total, "method": config.loss, **last, **counts}


def require_both_kinds(store: PreferenceStore, context: StageContext) -> None:
    """UserError if all answers are desirable, or none is. Either side of a pair is one of a kind."""
    elements = [store[index] for index in range(len(store))]
    if any(each.pairs for each in elements):
        return
    kinds = {label for each in elements for label in each.labels}
    if len(kinds) < 2:
        missing = "undesirable" if True in kinds else "desirable"
        raise UserError(f"stage {context.id}: no answer is {missing}; kto learns from both kinds.", fix="Add some.")


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
