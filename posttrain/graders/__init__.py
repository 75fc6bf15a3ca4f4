"""Rollout -> Grade. Training rewards and evaluation call the same functions.

    grader = build(configs, base=recipe_folder)      # check files and settings, start nothing yet
    grade = await grader(task, rollout)              # never raises for what a model wrote
    await grader.aclose()                            # leaves no process behind

Settings by short name, for Python: `pt.graders.math()`, `pt.graders.length(soft=30, hard=60, weight=0.2)`.
A new grader is a settings class in core/config/graders.py and one line in GRADERS.
"""

from __future__ import annotations

from posttrain.core.config import CodeGrader as code
from posttrain.core.config import FormatGrader as format
from posttrain.core.config import InstructionGrader as instruction
from posttrain.core.config import LanguageGrader as language
from posttrain.core.config import LengthGrader as length
from posttrain.core.config import LookupGrader as lookup
from posttrain.core.config import MathGrader as math
from posttrain.core.config import RefusalGrader as refusal
from posttrain.core.config import RewardModelGrader as reward_model
from posttrain.graders.build import GRADERS, build, grade_text
from posttrain.graders.combine import Composite, Part, combine
from posttrain.graders.selftest import SelfTest, selftest

__all__ = [
    "GRADERS",
    "Composite",
    "Part",
    "SelfTest",
    "build",
    "code",
    "combine",
    "format",
    "grade_text",
    "instruction",
    "language",
    "length",
    "lookup",
    "math",
    "refusal",
    "reward_model",
    "selftest",
]
