"""A whole recipe at toy size, run as a person runs it: by the command line, in a process that can be killed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from posttrain.models.toy import make_toy
from posttrain.records.metrics import read_metrics

GRADER = """
def letters(task, answer):
    '''Share of the answer that is a lower-case letter: dense enough for a random model to learn from.'''
    return sum(c.islower() for c in answer) / max(1, len(answer))
"""

RECIPE = """
name: toy
source: a test
tradeoff: none
model: ./model
seed: 7
stages:
  - id: start
    kind: evaluate
    model: base
    suites: {s: {source: ./tasks.jsonl}}
    graders: &g [{kind: function, path: "./grader.py:letters"}]
    sampling: &s {max_tokens: 6}
  - id: learn
    kind: sft
    model: base
    data: ./train.jsonl
    steps: 6
    batch_size: 4
    learning_rate: 1e-3
    checkpoint_every: 2
    lora: {rank: 4}
    validation: 2
    validate_every: 3
  - id: rl
    kind: grpo
    model: learn
    tasks: ./tasks.jsonl
    graders: *g
    steps: 5
    prompts_per_step: 3
    samples_per_prompt: 4
    max_tokens: 6
    checkpoint_every: 2
    learning_rate: 1e-2
    algorithm: ALGORITHM
    kl: {coefficient: 0.01}
  - id: best
    kind: best_of_n
    model: rl
    tasks: ./tasks.jsonl
    graders: *g
    sampling: {samples: 4, temperature: 1.0, max_tokens: 6}
    keep: {passed: false, finished: false}
  - {id: end, kind: evaluate, model: rl, suites: {s: {source: ./tasks.jsonl}}, graders: *g, sampling: *s, compare_to: start}
  - {id: why, kind: diagnose, of: end, before: start}
"""


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def write_recipe(folder: Path, *, algorithm: str = "dr_grpo") -> Path:
    make_toy(folder / "model", size="tiny")
    (folder / "grader.py").write_text(GRADER)
    tasks = [{"id": f"t{i}", "prompt": f"say {i}", "answer": "x", "slices": {"odd": str(i % 2)}} for i in range(8)]
    rows = [{"messages": [turn("user", f"count from {i}"), turn("assistant", f"{i} {i + 1} {i + 2}")]} for i in range(20)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tasks))
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("ALGORITHM", algorithm))
    return recipe


def run(recipe: Path, runs: Path, *more: str, fault: str = "", timeout: float = 240) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("POSTTRAIN_FAULT", None)
    if fault:
        environment["POSTTRAIN_FAULT"] = fault
    command = [sys.executable, "-m", "posttrain.cli", "run", str(recipe), "--runs", str(runs), *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


def fingerprint(root: Path) -> dict[str, str]:
    """What a run must come to, whatever happened to it: the bytes of its weights and data, its metrics without times."""
    found = {}
    for file in sorted(root.rglob("*.safetensors")):
        if "checkpoints" not in file.parts:
            found[str(file.relative_to(root))] = hashlib.sha256(file.read_bytes()).hexdigest()
    for file in sorted(root.rglob("metrics.jsonl")):
        rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_metrics(file)]
        found[str(file.relative_to(root))] = json.dumps(rows, sort_keys=True)
    for file in sorted(root.rglob("data.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[str(file.relative_to(root))] = json.dumps([{k: v for k, v in row.items() if k != "provenance"} for row in rows])
    return found
