"""Settings of training on raw text: pre-training, mid-training, and the extension of a model's context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from posttrain.core.config.base import Refers, listed
from posttrain.core.config.checks import STRICT, not_negative, positive
from posttrain.core.config.training import TrainConfig


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """One source of raw text. A bare string in a recipe means `source` alone."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    source: Annotated[str, Refers("data")]
    """A file or folder of text (`./corpus`: txt, md, rst, man pages, message catalogues, all also gzipped), rows with a
    column `text` (jsonl, json, csv, parquet), an earlier stage that writes such rows, or a built-in set:
    builtin:python-documentation, builtin:package-documentation, builtin:man-pages, builtin:message-catalogues,
    builtin:generated-text."""
    weight: float = 1.0
    """Share of this source in the mixture, in tokens, relative to the other sources' weights."""
    count: int | None = None
    """Use at most this many documents, drawn by the seed."""
    languages: Sequence[str] = ()
    """Keep only documents of these languages, named as the source names them (en, de, pt_BR); empty keeps all."""
    shortest: int = 0
    """Leave out documents of fewer characters: long contexts are learnt from long documents."""

    longest: int | None = None
    """Use at most this many characters of a document, from its beginning: a few long ones would fill a small run."""
    optional: bool = False
    """Go on without this source where it holds no text, such as manual pages on a machine without any; it is said and recorded."""

    def __post_init__(self) -> None:
        positive(weight=self.weight)
        not_negative(shortest=self.shortest)
        if self.count is not None:
            positive(count=self.count)
        if self.longest is not None:
            positive(longest=self.longest)
            if self.longest < self.shortest:
                raise ValueError(f"longest is {self.longest}; expected at least shortest ({self.shortest})")


@dataclass(frozen=True, kw_only=True)
class ContextConfig:
    """A longer context than the model has, by rescaling its rotary positions."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    length: int
    """Tokens the model can read after the stage; more than it can read now."""
    type: Literal["yarn"] = "yarn"
    """How positions are rescaled: YaRN (arXiv:2309.00071), as transformers' rope type of that name."""
    factor: float | None = None
    """YaRN's scale s: length over the length the model was pre-trained for. None takes just what `length` needs, up to 32;
    the paper also trains with a larger one than the length needs."""
    beta_fast: float = 32.0
    """Dimensions that turn more often than this over the original length keep their frequency."""
    beta_slow: float = 1.0
    """Dimensions that turn less often than this over the original length are slowed down by the whole factor."""
    attention_factor: float | None = None
    """Factor on queries and keys each; none takes YaRN's 0.1 ln(s) + 1."""

    def __post_init__(self) -> None:
        positive(length=self.length, beta_fast=self.beta_fast, beta_slow=self.beta_slow)
        if self.beta_fast <= self.beta_slow:
            raise ValueError(f"beta_fast is {self.beta_fast:g}; expected more than beta_slow ({self.beta_slow:g})")
        if self.factor is not None and not self.factor > 1:
            raise ValueError(f"factor is {self.factor:g}; expected a number above 1")
        if self.attention_factor is not None:
            positive(attention_factor=self.attention_factor)


@dataclass(frozen=True, kw_only=True)
class MidtrainConfig(TrainConfig):
    """Training on raw text: every token is predicted. Continued pre-training, long-context extension, and pre-training itself."""

    kind: ClassVar[str] = "midtrain"

    data: Sequence[TextSource]
    """Sources of raw text, mixed by weight."""
    learning_rate: float = 1e-4
    """Peak learning rate."""
    sequence_length: int = 1024
    """Tokens in one packed sequence. Longer documents go on in the next one."""
    batch_size: int = 8
    """Sequences in one optimizer step."""
    steps: int | None = None
    """Optimizer steps; none means what `epochs` says. With steps set, no more text is read than they need."""
    epochs: float = 1.0
    """Passes over the text; ignored if `steps` is set."""
    cross_documents: bool = False
    """Let attention see earlier documents of the same sequence. Off, a document is read as if it stood alone."""
    validation: int = 16
    """Documents of each source held out of training; the loss on their first `sequence_length` tokens is measured before
    the first step and after the last."""
    decontaminate: bool = True
    """Leave out documents that share long n-grams with an evaluation set of the recipe; they are counted."""
    context: ContextConfig | None = None
    """Extend the context of the model first; none keeps what it has."""

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        if not self.data:
            raise ValueError("data is empty; expected at least one source")
        positive(epochs=self.epochs, batch_size=self.batch_size, validation=self.validation)
        if self.steps is not None:
            positive(steps=self.steps)
        if self.sequence_length < 8:
            raise ValueError(f"sequence_length is {self.sequence_length}; expected at least 8")
        if self.context is not None and self.sequence_length > self.context.length:
            raise ValueError(f"sequence_length is {self.sequence_length}; expected at most context.length ({self.context.length})")

    def plan(self) -> str:
        much = f"{self.steps} steps" if self.steps else f"{self.epochs:g} epoch(s)"
        text = f"train {self.model} on the text of {listed([source.source for source in self.data])}: {much} of "
        text += f"{self.batch_size} x {self.sequence_length} tokens"
        return f"{text}, context extended to {self.context.length}" if self.context else text
