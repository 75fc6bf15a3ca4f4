"""A complete run directory, written with the real writers, as the pipeline would leave it. Numbers are made up, seeded."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from posttrain.core.types import Grade, Group, Message, Rollout, Sampling, Task, TokenRow, floats, ints
from posttrain.diagnosis import diagnose
from posttrain.evaluation import summarise
from posttrain.records.events import append_event
from posttrain.records.files import write_json, write_manifest
from posttrain.records.metrics import MetricsWriter
from posttrain.records.paths import RunPaths, StagePaths
from posttrain.records.rollouts import read_rollouts, write_rollouts
from posttrain.records.summary import Result, RunSummary, StageSummary, write_result, write_summary

OPERATIONS = ("add", "subtract", "multiply", "divide")
EVALUATE = {"kind": "evaluate", "suites": {"arithmetic": {"source": "builtin:arithmetic"}}}
STAGES: list[dict[str, Any]] = [
    {"id": "start", **EVALUATE, "model": "base"},
    {"id": "cold-start", "kind": "sft", "model": "base", "data": [{"source": "builtin:arithmetic"}], "max_grad_norm": 1.0},
    {"id": "after-sft", **EVALUATE, "model": "cold-start", "compare_to": "start"},
    {"id": "rl", "kind": "grpo", "model": "cold-start", "mismatch_budget": 0.15, "max_tokens": 128, "max_grad_norm": 1.0},
    {"id": "after-rl", **EVALUATE, "model": "rl", "compare_to": "start"},
    {"id": "rejection", "kind": "best_of_n", "model": "rl"},
    {"id": "polish", "kind": "sft", "model": "cold-start", "data": [{"source": "rejection"}], "max_grad_norm": 1.0},
    {"id": "end", **EVALUATE, "model": "polish", "compare_to": "after-rl"},
    {"id": "diagnosis", "kind": "diagnose", "of": "end", "before": "start"},
]
SKILL = {
    "start": (0.14, 0.10, 0.02, 0.03),
    "after-sft": (0.66, 0.55, 0.25, 0.3),
    "after-rl": (0.95, 0.9, 0.55, 0.62),
    "end": (0.96, 0.88, 0.5, 0.6),
}


def make_run(root: Path, *, until: str = "", tasks: int = 120, steps: int = 30) -> RunPaths:
    """Write a run into `root`. `until` names a stage that is still running: it has half its records, and nothing follows."""
    run = RunPaths(root)
    root.mkdir(parents=True, exist_ok=True)
    recipe = {
        "name": "rlvr",
        "source": "arXiv:2402.03300",
        "differs": ["A 135M model, LoRA and 30 steps instead of a cluster."],
        "tradeoff": "RL raises the ceiling at ten times the compute of SFT, and the verifier must be right.",
        "model": "smollm2-135m-instruct",
        "seed": 7,
        "scale": "tiny",
        "stages": STAGES,
    }
    with run.recipe.open("w") as file:
        YAML().dump(recipe, file)
    done: list[StageSummary] = []
    for stage in STAGES:
        paths = run.stage(stage["id"])
        if stage["id"] == until:
            _half(paths, stage, steps)
            done.append(StageSummary(stage["id"], stage["kind"], "running"))
            break
        wall_s, evaluations = _write(run, paths, stage, tasks, steps)
        model = f"{stage['id']}/model" if stage["kind"] in ("sft", "grpo") else stage.get("model", "")
        done.append(StageSummary(stage["id"], stage["kind"], "done", wall_s, model, evaluations))
    summary = RunSummary(root.name, "rlvr", recipe["model"], "running" if until else "done", sum(s.wall_s for s in done), done)
    write_summary(run, summary)
    versions = {"python": "3.11.9", "posttrain": "0.1.0", "torch": "2.13.0", "transformers": "5.19.0"}
    stages = [{"id": s.id, "kind": s.kind, "parents": {}, "versions": versions} for s in done]
    write_json(run.lineage, {"name": root.name, "model": recipe["model"], "seed": 7, "stages": stages})
    return run


def _write(run: RunPaths, paths: StagePaths, stage: dict[str, Any], tasks: int, steps: int) -> tuple[float, dict[str, Any]]:
    paths.directory.mkdir(parents=True)
    _config(paths, stage)
    append_event(paths.events, "started")
    evaluations: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    if stage["kind"] == "evaluate":
        write_rollouts(paths.rollouts / "arithmetic.parquet", 0, graded(stage["id"], tasks), suite="arithmetic")
        evaluations = summarise(read_rollouts(paths.rollouts))
    elif stage["kind"] == "grpo":
        train_rl(paths, steps)
    elif stage["kind"] == "sft":
        train_sft(paths, steps)
    elif stage["kind"] == "best_of_n":
        write_rollouts(paths.rollouts / "samples.parquet", 0, graded("after-rl", 12, samples=4), suite="samples")
        curve = [{"k": 1, "pass@k": 0.72, "kl": 0.0}, {"k": 2, "pass@k": 0.83, "kl": 0.19}, {"k": 4, "pass@k": 0.9, "kl": 0.64}]
        notes = {"tasks": 12, "kept": 10, "dropped": {"not passed": 13, "a longer copy": 25}, "curve": curve}
    else:
        found = diagnose(read_rollouts(run.stage("end").rollouts), before=read_rollouts(run.stage("start").rollouts))
        write_json(paths.diagnosis, found.to_json())
        paths.tasks.write_text('{"id": "new", "prompt": "2 * 3?", "answer": "6"}\n')
    wall_s = {"grpo": 412.0, "sft": 96.0, "evaluate": 14.2, "best_of_n": 51.0}.get(stage["kind"], 0.4)
    append_event(paths.events, "finished", wall_s=wall_s)
    write_result(paths, Result(stage["id"], stage["kind"], wall_s, {}, notes, evaluations))
    write_manifest(paths.directory, paths.manifest, fingerprint="f", finished="2026-01-01T00:00:00+00:00", versions={})
    return wall_s, evaluations


def _half(paths: StagePaths, stage: dict[str, Any], steps: int) -> None:
    paths.directory.mkdir(parents=True)
    _config(paths, stage)
    append_event(paths.events, "started")
    if stage["kind"] == "grpo":
        train_rl(paths, steps // 2)


def _config(paths: StagePaths, stage: dict[str, Any]) -> None:
    with paths.config.open("w") as file:
        YAML().dump({"fingerprint": "f", **stage}, file)


def train_rl(paths: StagePaths, steps: int) -> None:
    noise = random.Random(1)
    with MetricsWriter(paths.metrics) as metrics:
        for step in range(steps):
            done = step / 29
            passed = 0.45 + 0.38 * done + noise.gauss(0, 0.03)
            metrics.write(
                step,
                {
                    "reward/mean": 1.2 * passed + 0.1,
                    "reward/std": 0.4,
                    "reward/math": passed,
                    "reward/format": min(1.0, 0.8 + 0.3 * done),
                    "passed": passed,
                    "kl/k1": 0.004 + 0.09 * done**0.7 + noise.gauss(0, 0.004),
                    "kl/k3": 0.004 + 0.1 * done**0.7,
                    "entropy": 0.62 - 0.38 * done,
                    "length/mean": 58 - 9 * done + noise.gauss(0, 2),
                    "length/max": 128 - 20 * done,
                    "length/truncated": max(0.0, 0.06 - 0.05 * done),
                    "groups/zero_variance": 0.2 + 0.4 * done,
                    "groups/kept": 16.0,
                    "clip/low": 0.002 + 0.002 * noise.random(),
                    "clip/high": 0.004 + 0.004 * noise.random(),
                    "gap/mean": 0.011 + 0.002 * noise.random(),
                    "gap/max": 0.2 + 0.1 * noise.random(),
                    "rollouts/unscored": 0.0,
                    "rollouts/failed": 0.0,
                    "loss": math.nan if step == 11 else -0.01 + 0.01 * noise.random(),
                    "grad_norm": 0.5 + 0.2 * noise.random(),
                    "learning_rate": 1e-4 * min(1.0, (step + 1) / 5),
                    "time/generate": 7.1,
                    "time/grade": 0.4,
                    "time/score": 1.3,
                    "time/update": 4.2,
                    "time/step": 13.4,
                },
            )
            if step % 5 == 0 or step == steps - 1:
                write_rollouts(
                    paths.rollouts / f"step-{step:06d}.parquet", step, graded("after-sft" if step < 15 else "after-rl", 6, 4)
                )
    append_event(
        paths.events,
        "warning",
        step=21,
        severity="note",
        monitor="entropy",
        text="entropy fell from 0.62 to 0.06 nats per token; samples are nearly equal",
    )


def train_sft(paths: StagePaths, steps: int) -> None:
    noise = random.Random(2)
    with MetricsWriter(paths.metrics) as metrics:
        for step in range(4 * steps):
            row = {"loss": 0.3 + 1.9 * math.exp(-step / 20) + noise.gauss(0, 0.05), "grad_norm": 0.8 + 0.3 * noise.random()}
            row |= {"learning_rate": 2e-4 * (1 - step / (4 * steps)), "time/update": 0.7, "time/step": 0.75}
            if step % 20 == 0:
                row["loss/validation"] = 0.35 + 1.9 * math.exp(-step / 20)
            metrics.write(step, row)


def graded(skill: str, tasks: int, samples: int = 1) -> list[Group]:
    """Groups as a model of that skill would leave them, with a few failures of every kind."""
    groups = []
    for number in range(tasks):
        draw = random.Random(f"{skill}/{number}")
        kind = number % 4
        digits = 1 + (number // 4) % 2
        a, b = (random.Random(f"{number}/{name}").randint(10 ** (digits - 1), 10**digits - 1) for name in "ab")
        answer = str((a + b, a - b, a * b, a)[kind])
        sign = "+-×÷"[kind]
        left = a * b if kind == 3 else a
        slices = {"operation": OPERATIONS[kind], "digits": str(digits)}
        task = Task(f"arithmetic-{number}", (Message("user", f"What is {left} {sign} {b}?"),), answer, slices)
        rollouts = tuple(_rollout(task, sample, draw, SKILL[skill][kind] - 0.1 * (digits - 1)) for sample in range(samples))
        groups.append(Group(task, rollouts))
    return groups


def _rollout(task: Task, sample: int, draw: random.Random, skill: float) -> Rollout:
    right, luck = draw.random() < skill, draw.random()
    given = task.answer if right else str(int(task.answer or 0) + draw.choice((1, -1, 10)))
    text, answer, status = (
        f"<think>{task.messages[0].content[8:-1]} makes {given}.</think>\n<answer>{given}</answer>",
        given,
        "done",
    )
    if not right and luck < 0.25:
        text, answer = f"The result of the calculation is {given}, I think.", None
    elif not right and luck < 0.35:
        text, answer, status = "Let us see. We take the first number and add " * 14, None, "truncated"
    elif not right and luck < 0.42:
        text, answer, status = "<think>We split the number into tens and ones, then", None, "truncated"
    elif not right and luck < 0.46:
        text, answer = "I'm sorry, but I can't help with that.", None
    grade = Grade(
        1.2 if right else 0.2 if answer else 0.0,
        right,
        answer=answer,
        parts={"math": float(right), "format": float(answer is not None)},
    )
    written = len(text) // 4
    row = TokenRow(ints([5] * written), ints([1] * written), floats([-0.1] * written), ints([3] * written))
    return Rollout(task, sample, (*task.messages, Message("assistant", text)), (row,), Sampling(), status, grade)  # type: ignore[arg-type]
