"""Which graders a stage uses. Several make a weighted sum; a `gate` multiplies the sum by 0 when it is not passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from posttrain.core.config.base import RewardModelReference
from posttrain.core.config.checks import not_negative, positive, share
from posttrain.core.config.instruction import Constraint
from posttrain.core.config.judge import JudgeGrader
from posttrain.core.config.weighted import Weighted


@dataclass(frozen=True, kw_only=True)
class MathGrader(Weighted):
    """Mathematical equality with the reference answer: exact first, then math-verify in a process that can be killed."""

    kind: Literal["math"] = "math"
    extract: Literal["boxed", "answer_tag", "last_number", "any"] = "any"
    """Where the answer stands. `any` tries the boxed answer, then the answer tag, then the last number."""
    timeout_s: float = 5.0
    """Seconds one symbolic check may take before its process is killed and the grade is an error."""

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        positive(timeout_s=self.timeout_s)


@dataclass(frozen=True, kw_only=True)
class LookupGrader(Weighted):
    """The answer equals the reference, or one of its aliases (`metadata.aliases`), after normalising case and spaces."""

    kind: Literal["lookup"] = "lookup"
    extract: Literal["answer_tag", "last_line", "whole", "any"] = "any"
    """Where the answer stands. `any` uses the answer tag if there is one, else the last line."""
    compare: Literal["text", "number", "set", "list", "f1"] = "text"
    """`number` compares values with their units, `set` and `list` items without and with their order, `f1` shared words."""
    ignore: Sequence[Literal["articles", "punctuation", "accents"]] = ()
    """What else makes no difference in words, beside case, spaces, outer quotes and a final stop."""
    absolute_tolerance: float = 0.0
    """How far a number may be from the reference, in the reference's unit. Only for `number`."""
    relative_tolerance: float = 0.0
    """How far a number may be from the reference, as a share of it; the larger of the two tolerances counts. Only for `number`."""
    unit_required: bool = False
    """If true, an answer without a unit is wrong where the reference has one. Only for `number`."""
    separator: str = ","
    """What parts the items, beside the word "and" before the last one and the ends of lines. Only for `set` and `list`."""
    pass_from: float = 1.0
    """The F1 from which an answer passes; the score is the F1 itself. Only for `f1`."""

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        not_negative(absolute_tolerance=self.absolute_tolerance, relative_tolerance=self.relative_tolerance)
        share(pass_from=self.pass_from)
        if not self.separator.strip() or self.pass_from == 0:
            raise ValueError(f"separator is {self.separator!r} and pass_from {self.pass_from}; expected a mark, and more than 0")
        number = ("absolute_tolerance", "relative_tolerance", "unit_required")
        meant_for = {**dict.fromkeys(number, ("number",)), "separator": ("set", "list"), "pass_from": ("f1",)}
        for name, kinds in meant_for.items():
            if getattr(self, name) != type(self).__dataclass_fields__[name].default and self.compare not in kinds:
                raise ValueError(f"{name} is set, but compare is {self.compare}; expected compare: {' or '.join(kinds)}")
        if self.ignore and self.compare == "number":
            raise ValueError("ignore is set, but compare is number; expected another compare, which compares words")


@dataclass(frozen=True, kw_only=True)
class FormatGrader(Weighted):
    """The answer keeps a layout."""

    kind: Literal["format"] = "format"
    layout: Literal["think_answer", "boxed"] = "think_answer"
    """`think_answer`: <think>…</think><answer>…</answer> once each and nothing else; `boxed`: exactly one final box."""


@dataclass(frozen=True, kw_only=True)
class LanguageGrader(Weighted):
    """Share of words in the target language (DeepSeek-R1's language consistency reward)."""

    kind: Literal["language"] = "language"
    language: str = "en"
    """ISO 639-1 code of the target language."""


@dataclass(frozen=True, kw_only=True)
class LengthGrader(Weighted):
    """1 up to `soft` written tokens, falling linearly to 0 at `hard`."""

    kind: Literal["length"] = "length"
    soft: int = 128
    """Tokens up to which the score is 1."""
    hard: int = 256
    """Tokens from which the score is 0."""

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        if not 0 < self.soft < self.hard:
            raise ValueError(f"soft is {self.soft} and hard is {self.hard}; expected 0 < soft < hard")


@dataclass(frozen=True, kw_only=True)
class RefusalGrader(Weighted):
    """The text refuses, abstains or answers as the task's `metadata.expect` asks, with the words the metadata names."""

    kind: Literal["refusal"] = "refusal"
    longest: int = 80
    """Words of the longest refusal or abstention; a longer text may help after all, or guess."""

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        positive(longest=self.longest)


@dataclass(frozen=True, kw_only=True)
class InstructionGrader(Weighted):
    """The share of an answer's constraints that it keeps: the task's (`metadata.constraints`) and those given here. Passed: all."""

    kind: Literal["instruction"] = "instruction"
    constraints: Sequence[Constraint] = ()
    """Constraints on every answer, beside those that each task brings."""
    strictness: Literal["strict", "loose"] = "strict"
    """`loose` looks again without the first line, the last line and the asterisks, which often only frame an answer."""


@dataclass(frozen=True, kw_only=True)
class CodeGrader(Weighted):
    """The program in the answer passes the task's tests (`metadata.tests`), run in the sandbox."""

    kind: Literal["code"] = "code"
    score: Literal["all", "share"] = "all"
    """`all`: 1 if every test passes, else 0. `share`: the share of tests that pass, which is easier to learn and to game."""
    timeout_s: float = 10.0
    """Seconds one program may take, all its tests together; each case of `io` is a program of its own."""
    cpu_s: int = 5
    """Seconds of CPU each of its processes may use."""
    memory_mb: int = 512
    """Memory each of its processes may have."""
    packages: bool = False
    """If true, programs may import what is installed beside posttrain; else the standard library only."""

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        positive(timeout_s=self.timeout_s, cpu_s=self.cpu_s, memory_mb=self.memory_mb)


@dataclass(frozen=True, kw_only=True)
class FunctionGrader(Weighted):
    """A grader of your own: a Python function f(task, answer) -> float, bool or Grade."""

    kind: Literal["function"] = "function"
    path: str
    """`./my_graders.py:concise`: a file and the function in it. The file is run as code: use only your own."""
    timeout_s: float = 10.0
    """Seconds one call may take before its process is killed and the grade is an error."""

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        positive(timeout_s=self.timeout_s)


@dataclass(frozen=True, kw_only=True)
class RewardModelGrader(Weighted):
    """A trained reward model's score, without bounds; it calls no answer right or wrong."""

    kind: Literal["reward_model"] = "reward_model"
    model: RewardModelReference
    """The reward model: an earlier stage's id, `run:<name>/<stage>`, or a directory."""
    combine: Literal["mean", "min", "mean_minus_std"] = "mean"
    """How the members of an ensemble make one score. `min` and `mean_minus_std` trust an answer less where members disagree."""
    penalty: float = 1.0
    """Factor of the standard deviation in `mean_minus_std`."""
    normalise: bool = True
    """Give each member mean 0 and standard deviation 1 on its training answers before members are combined."""

    def __post_init__(self) -> None:
        Weighted.__post_init__(self)
        not_negative(penalty=self.penalty)
        if self.gate:
            raise ValueError("gate is true, but a reward model gives a score and no verdict; expected false")


GraderConfig = (
    MathGrader
    | LookupGrader
    | FormatGrader
    | LanguageGrader
    | LengthGrader
    | RefusalGrader
    | InstructionGrader
    | CodeGrader
    | FunctionGrader
    | RewardModelGrader
    | JudgeGrader
)
