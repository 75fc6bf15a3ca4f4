"""Rollout -> Grade. Training rewards and evaluation call the same functions.

    grader = build(configs, base=recipe_folder)      # check files and settings, start nothing yet
    grade = await grader(task, rollout)              # never raises for what a model wrote
    await grader.aclose()                            # leaves no process behind

A new grader is a settings class in core/config/graders.py and one line in GRADERS.
"""

from __future__ import annotations

from posttrain.graders.build import GRADERS, build, grade_text
from posttrain.graders.combine import Composite, Part, combine
from posttrain.graders.selftest import SelfTest, selftest

__all__ = ["GRADERS", "Composite", "Part", "SelfTest", "build", "combine", "grade_text", "selftest"]
