"""A small recipe on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """\
name: small
source: a test
tradeoff: none
model: toy
stages:
  - {id: start, kind: evaluate, suites: {test: builtin:arithmetic}, graders: math}
  - {id: sft, kind: sft, data: builtin:arithmetic}
  - {id: rl, kind: grpo, model: sft, tasks: builtin:arithmetic, graders: [math, format]}
  - {id: best, kind: best_of_n, model: rl, tasks: builtin:arithmetic, graders: math}
  - {id: last, kind: sft, model: rl, data: best}
  - {id: end, kind: evaluate, model: last, suites: {test: builtin:arithmetic}, graders: math, compare_to: start}
  - {id: why, kind: diagnose, of: end, before: start, patch: builtin:arithmetic}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a recipe: its stages, or a whole file that has a name."""

    def written(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text if "name:" in text else f"name: x\nsource: a test\ntradeoff: none\nmodel: toy\nstages:\n{text}")
        return path

    return written
