"""Rollouts on disk: one parquet file a step or a suite, one row a rollout, with TRL's column names where TRL has one.

`prompt` is everything before the last assistant turn, `completion` that turn's text and `calls` its tool calls. Mappings are JSON
text in a column, so that the schema is the same for every task set. `logprob` is the sum over the tokens the model wrote. `rows`,
filled for episodes in an environment, are the tokens the model saw and wrote, with 1 where it wrote them itself.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from posttrain.core.types import Grade, Group, Message, Rollout, ToolCall
from posttrain.records.files import write_atomic

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("suite", pa.string()),
        ("task_id", pa.string()),
        ("sample", pa.int64()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("reference", pa.string()),
        ("answer", pa.string()),
        ("score", pa.float64()),
        ("passed", pa.bool_()),
        ("grade_status", pa.string()),
        ("explanation", pa.string()),
        ("rollout_status", pa.string()),
        ("finish", pa.string()),
        ("parts", pa.string()),
        ("slices", pa.string()),
        ("tokens", pa.int64()),
        ("logprob", pa.float64()),
        ("advantage", pa.float64()),
        ("version", pa.int64()),
        ("ending", pa.string()),
        ("calls", pa.string()),
        ("tools", pa.string()),
        ("rows", pa.list_(pa.struct([("tokens", pa.list_(pa.int32())), ("mask", pa.list_(pa.int8()))]))),
    ]
)
JSON_COLUMNS = ("prompt", "parts", "slices", "calls", "tools")
FINISH = {"done": "stop", "truncated": "length", "failed": "abort"}


@dataclass(frozen=True)
class RolloutRecord:
    """One rollout as the report, the diagnosis and the statistics see it."""

    step: int
    suite: str
    task_id: str
    sample: int
    prompt: Sequence[Mapping[str, Any]]
    """Role and content of each turn; thinking, tool calls and a tool's name where there are any."""
    completion: str
    reference: str | None
    answer: str | None
    score: float | None
    passed: bool | None
    grade_status: str
    """`scored`, `unscored` or `error`; an ungraded rollout is `unscored`."""
    explanation: str
    """The grader's, or why the rollout failed."""
    rollout_status: str
    """`done`, `truncated` or `failed`."""
    finish: str
    """`stop`, `length` or `abort`."""
    parts: Mapping[str, float | None]
    slices: Mapping[str, str]
    tokens: int
    """Tokens the model wrote."""
    logprob: float
    """Sum of the log-probabilities of those tokens, in nats."""
    advantage: float | None
    version: int
    """Weight version that wrote the last token; -1 if none was written."""
    ending: str = ""
    """How an episode in an environment ended; empty for a single answer."""
    calls: Sequence[Mapping[str, Any]] = ()
    """The tool calls of the last turn, which an episode that was cut off may have."""
    tools: Sequence[Mapping[str, Any]] = ()
    """The JSON schemas of the tools that were offered."""


def write_rollouts(
    path: Path, step: int, groups: Sequence[Group], advantages: Mapping[tuple[str, int], float] | None = None, *, suite: str = ""
) -> None:
    """Write the groups of one step or suite, replacing the file. `advantages` is keyed by task id and sample."""
    rows = []
    for rollout in (rollout for group in groups for rollout in group.rollouts):
        row = asdict(record(rollout, step, suite, advantages or {}))
        row |= {name: json.dumps(row[name], ensure_ascii=False) for name in JSON_COLUMNS}
        if rollout.ending:
            row["rows"] = [{"tokens": each.tokens.tolist(), "mask": each.mask.tolist()} for each in rollout.rows]
        rows.append(row)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())


def read_rollouts(path: Path) -> Iterator[RolloutRecord]:
    """The records of a file, or of every parquet file of a folder in the order of their names."""
    names = {field.name for field in fields(RolloutRecord)}
    for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
        with pq.ParquetFile(file) as parquet:
            there = [name for name in parquet.schema_arrow.names if name in names]  # files of earlier versions have fewer
            for batch in parquet.iter_batches(batch_size=1024, columns=there):
                for row in batch.to_pylist():
                    yield RolloutRecord(
                        **{name: json.loads(value) if name in JSON_COLUMNS else value for name, value in row.items()}
                    )


def record(rollout: Rollout, step: int, suite: str, advantages: Mapping[tuple[str, int], float]) -> RolloutRecord:
    """A rollout as a row."""
    last = max((i for i, message in enumerate(rollout.messages) if message.role == "assistant"), default=len(rollout.messages))
    prompt = rollout.messages[:last] or rollout.task.messages
    grade = rollout.grade or Grade.unscored("not graded")
    written = [(p, v) for row in rollout.rows for m, p, v in zip(row.mask, row.logprobs, row.versions, strict=True) if m]
    return RolloutRecord(
        step=step,
        suite=suite,
        task_id=rollout.task.id,
        sample=rollout.sample,
        prompt=[turn(message) for message in prompt],
        completion=rollout.text,
        reference=rollout.task.answer,
        answer=grade.answer,
        score=grade.score,
        passed=grade.passed,
        grade_status=grade.status,
        explanation=rollout.failure or grade.explanation,
        rollout_status=rollout.status,
        finish=FINISH[rollout.status],
        parts=dict(grade.parts),
        slices=dict(rollout.task.slices),
        tokens=len(written),
        logprob=float(sum(p for p, _ in written)),
        advantage=advantages.get((rollout.task.id, rollout.sample)),
        version=written[-1][1] if written else -1,
        ending=rollout.ending,
        calls=[call_of(call) for message in rollout.messages[last : last + 1] for call in message.tool_calls],
        tools=rollout.tools,
    )


def turn(message: Message) -> dict[str, Any]:
    """A turn as the records have it: what it has nothing of is left out."""
    more = {"thinking": message.thinking, "name": message.name, "tool_calls": [call_of(call) for call in message.tool_calls]}
    return {"role": message.role, "content": message.content, **{name: value for name, value in more.items() if value}}


def call_of(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": dict(call.arguments)}
