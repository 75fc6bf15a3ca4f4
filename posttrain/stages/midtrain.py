"""midtrain: raw text -> held-out documents and packed sequences on disk -> training -> model, and what it did to the loss."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from posttrain.chat.codec import Codec
from posttrain.core.config import MidtrainConfig
from posttrain.core.errors import UserError
from posttrain.core.seeds import derive
from posttrain.core.stage import StageContext, StageResult
from posttrain.core.types import Passage
from posttrain.data.decontaminate import Index
from posttrain.data.dedup import DigestSet
from posttrain.data.raw_text import Texts, texts
from posttrain.data.sequences import alone, mixed, pieces, sequences
from posttrain.data.store import TokenStore, TokenStoreWriter
from posttrain.data.texts.document import Document
from posttrain.evaluation.token_loss import Loss, change
from posttrain.models import rope
from posttrain.models.load import Loaded
from posttrain.records.files import write_json
from posttrain.records.paths import StagePaths
from posttrain.records.summary import read_json
from posttrain.stages.parts import HERE, model_of, run_async, save_policy
from posttrain.stages.sft import evaluation_tasks
from posttrain.training.driver import drive, resume
from posttrain.training.midtrain import midtrain
from posttrain.training.policy import Policy
from posttrain.training.sft import Encoded, row_losses, total_steps

END_OF_TEXT = "<|endoftext|>"
"""What stands between documents where a vocabulary has it; else the tokenizer's end token does. Chat models end a turn with
another token than the one their pre-training put between documents, and keep that one in the vocabulary."""


def run(config: MidtrainConfig, context: StageContext) -> StageResult:
    paths, seed = StagePaths(context.directory), derive(context.seed, context.id)
    loaded = model_of(config.model, context)
    prepare(loaded, config, context)
    text = encoded(config, context, loaded)
    train, held_out = TokenStore(context.directory / "sequences"), TokenStore(context.directory / "held-out")
    total = total_steps(config, len(train))
    policy = Policy(loaded, config, total_steps=total, seed=seed)
    before = losses_before(policy, held_out, config, context)
    start = resume(policy, paths, context.reporter)
    loop = midtrain(policy, train, pieces, config, seed=seed, start=start.steps)
    work = drive(loop, policy, paths, config, start=start, total=total, reporter=context.reporter, stop=context.stop)
    history = run_async(work)
    validation = compared(before, losses(policy, held_out, config), text["sources"], context)
    artefacts = save_policy(policy, loaded.path, paths, adapter=config.context is None)  # its base has the old positions
    passes = total * config.batch_size / len(train)
    summary = {"steps": total, "loss": history[-1]["loss"], "passes": passes, "validation": validation, **text}
    return StageResult(artefacts, {**summary, "context": rope.context_of(loaded.model.config)})


def prepare(loaded: Loaded, config: MidtrainConfig, context: StageContext) -> None:
    """Extend the context where the stage asks for it, and refuse sequences that the model cannot read."""
    if config.context is not None:
        before = rope.context_of(loaded.model.config)
        rope.extend(loaded.model, config.context)
        context.reporter.say(f"context: {before} -> {config.context.length} tokens ({config.context.type})")
    if config.sequence_length > (reach := rope.context_of(loaded.model.config)):
        raise UserError(
            f"stage {context.id}: sequence_length is {config.sequence_length}; the model can read {reach} tokens.",
            fix=f"Set context: {{length: {config.sequence_length}}}, or use shorter sequences.",
        )


def encoded(config: MidtrainConfig, context: StageContext, loaded: Loaded) -> dict[str, Any]:
    """Held-out documents and sequences as tokens on disk, made once, and the account of the text; a resumed stage reads both."""
    account = context.directory / "text.json"
    if not account.exists():
        for name in ("sequences", "held-out"):  # of a process killed before the account was written
            shutil.rmtree(context.directory / name, ignore_errors=True)
        write_json(account, Text(config, context, loaded).write())
    found = read_json(account)
    for name in found["absent"]:
        context.reporter.say(f"text: {name}: nothing there, left out")
    for source in found["sources"]:
        spoken = ", ".join(f"{language} {count}" for language, count in list(source["languages"].items())[:8])
        context.reporter.say(
            f"text: {source['source']}: {source['trained_tokens']:,} tokens of {source['documents']} documents ({spoken}); "
            f"measured on {source['held_out']} others"
        )
    return dict(found)


class Text:
    """One pass over the sources: first the held-out documents of each, then the mixture, as far as the steps need it."""

    def __init__(self, config: MidtrainConfig, context: StageContext, loaded: Loaded) -> None:
        self.config, self.context, self.codec = config, context, Codec(loaded.tokenizer)
        separator = loaded.tokenizer.get_vocab().get(END_OF_TEXT, self.codec.end)
        if separator is None:
            raise UserError(
                f"the tokenizer of {config.model} has no token to put between documents.", fix="Set eos_token in its config."
            )
        self.separator: int = separator
        self.tasks = Index(evaluation_tasks(context) if config.decontaminate else [])
        seen, seed = DigestSet(), derive(context.seed, context.id, "text")
        self.opened: list[Texts] = [
            texts(source, references=context.references, base=HERE, seed=seed, seen=seen) for source in config.data
        ]

    def write(self) -> dict[str, Any]:
        """Write both stores and return the account."""
        with TokenStoreWriter(self.context.directory / "held-out") as writer:
            measured = [(source, self.hold_out(source, writer)) for source in self.opened]
            sources = [source for source, count in measured if count]
            if not sources:
                raise self.opened[0].nothing("to measure on")
        trained = [0] * len(sources)

        def took(number: int, tokens: int) -> None:
            trained[number] += tokens

        needed = self.config.steps * self.config.batch_size if self.config.steps else None
        cross, length = self.config.cross_documents, self.config.sequence_length
        with TokenStoreWriter(self.context.directory / "sequences") as writer:
            mixture = mixed([self.tokens(source) for source in sources], [source.source.weight for source in sources], took)
            made = 0
            for made, sequence in enumerate(sequences(mixture, length, self.separator, cross=cross), start=1):
                writer.append(*sequence)
                if made == needed:
                    break
            if not made:
                raise sources[0].nothing("to train on")
        counts = [count for _, count in measured if count]
        account = [
            {"source": each.source.source, **each.found.to_json(), "trained_tokens": tokens, "held_out": count}
            for each, tokens, count in zip(sources, trained, counts, strict=True)
        ]
        absent = [source.source.source for source, count in measured if not count]
        return {"sequences": made, "separator": self.codec.show([self.separator]), "absent": absent, "sources": account}

    def hold_out(self, source: Texts, writer: TokenStoreWriter) -> int:
        """Write the documents of a source that the loss is measured on; how many there are."""
        count = 0
        for document in islice(self.clean(source, source.held_out()), self.config.validation):
            writer.append(*alone(self.codec.plain(document.text), self.config.sequence_length, self.separator))
            count += 1
        if not count and not source.source.optional:
            raise source.nothing("to measure on")
        return count

    def tokens(self, source: Texts) -> Iterator[list[int]]:
        return (self.codec.plain(document.text) for document in self.clean(source, source.train()))

    def clean(self, source: Texts, documents: Iterator[Document]) -> Iterator[Document]:
        """The documents without those that hold an evaluation task."""
        for document in documents:
            if self.config.decontaminate and self.tasks.match(Passage("", document.text, document.origin)):
                source.found.left_out["holds an evaluation task"] += 1
                continue
            yield document


def losses(policy: Policy, held_out: TokenStore, config: MidtrainConfig) -> list[Loss]:
    return row_losses(policy, [Encoded(*held_out[i]) for i in range(len(held_out))], config.micro_batch_tokens)


def losses_before(policy: Policy, held_out: TokenStore, config: MidtrainConfig, context: StageContext) -> list[Loss]:
    """Measured once with the weights the stage starts from; kept, because a resumed stage no longer has those."""
    file = context.directory / "loss-before.json"
    if not file.exists():
        write_json(file, {"losses": losses(policy, held_out, config)})
    return [(loss, tokens) for loss, tokens in read_json(file)["losses"]]


def compared(
    before: Sequence[Loss], after: Sequence[Loss], sources: Sequence[dict[str, Any]], context: StageContext
) -> dict[str, Any]:
    """The change of the validation loss, of all sources together and of each."""
    whole = change(before, after)
    context.reporter.say(f"validation loss {whole}")
    found, start = {}, 0
    for source in sources:
        part = slice(start, start + source["held_out"])
        found[source["source"]] = change(before[part], after[part]).to_json()
        start = part.stop
    return {**whole.to_json(), "sources": found}
