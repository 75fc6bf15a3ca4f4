"""A toy recipe with a reward model in it: files of preferences, the reward model, and stages that use it as their grader."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from posttrain.models.toy import make_toy

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
    graders: [lookup]
    sampling: {max_tokens: 2}
  - id: reward
    kind: reward_model
    data: ./preferences.jsonl
    steps: 6
    batch_size: 4
    learning_rate: 3e-3
    checkpoint_every: 2
    lora: {rank: 4}
    validation: 0.2
    validate_every: 3
    MEMBERS
  - id: rl
    kind: grpo
    model: base
    tasks: ./tasks.jsonl
    graders: [{kind: reward_model, model: reward, combine: mean_minus_std}]
    steps: 3
    prompts_per_step: 3
    samples_per_prompt: 4
    max_tokens: 6
    checkpoint_every: 2
    learning_rate: 1e-2
  - id: best
    kind: best_of_n
    model: rl
    tasks: ./tasks.jsonl
    graders: [{kind: reward_model, model: reward}]
    sampling: {samples: 4, temperature: 1.0, max_tokens: 6}
    keep: {passed: false, finished: false}
  - id: end
    kind: evaluate
    model: rl
    suites: {s: {source: ./tasks.jsonl}}
    graders: [{kind: reward_model, model: reward, combine: min}]
    sampling: {max_tokens: 2}
    compare_to: start
"""


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def preference(number: int, answers: int = 3) -> dict[str, Any]:
    """Answers of letters and digits; the more letters the better, which one byte after another can tell."""
    draw = random.Random(number)
    texts = [
        "".join(draw.choice("abcdef" if draw.random() < k / (answers - 1) else "012345") for _ in range(8)) for k in range(answers)
    ]
    pairs = [{"better": j, "worse": i, "probability": 1.0, "margin": j - i} for i in range(answers) for j in range(i + 1, answers)]
    return {
        "prompt": [turn("user", f"write {number}")],
        "answers": [[turn("assistant", text)] for text in texts],
        "pairs": pairs,
        "source": "synthetic",
    }


def write_preferences(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps(preference(i)) + "\n" for i in range(count)))
    return path


def write_recipe(folder: Path, *, members: str = "members: 1") -> Path:
    make_toy(folder / "model", size="tiny")
    write_preferences(folder / "preferences.jsonl", 40)
    tasks = [{"id": f"t{i}", "prompt": f"say {i}", "answer": "x"} for i in range(6)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("MEMBERS", members))
    return recipe
