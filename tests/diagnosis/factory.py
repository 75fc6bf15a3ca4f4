"""Rollout records for the tests, with only what a test cares about spelled out."""

from __future__ import annotations

from typing import Any

from posttrain.records.rollouts import RolloutRecord


def record(task: str = "t0", passed: bool | None = True, **changes: Any) -> RolloutRecord:
    values: dict[str, Any] = {
        "step": 0,
        "suite": "sums",
        "task_id": task,
        "sample": 0,
        "prompt": [{"role": "user", "content": "What is 1 + 1?"}],
        "completion": "<answer>2</answer>" if passed else "<answer>3</answer>",
        "reference": "2",
        "answer": "2" if passed else "3",
        "score": None if passed is None else float(passed),
        "passed": passed,
        "grade_status": "unscored" if passed is None else "scored",
        "explanation": "",
        "rollout_status": "done",
        "finish": "stop",
        "parts": {},
        "slices": {"operation": "add"},
        "tokens": 8,
        "logprob": -2.0,
        "advantage": None,
        "version": 0,
    }
    return RolloutRecord(**{**values, **changes})
