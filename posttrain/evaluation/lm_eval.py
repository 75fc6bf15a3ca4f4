"""An evaluation in the shape of EleutherAI's lm-evaluation-harness, so that tools which read its files read ours.

`results_<date>.json` and one `samples_<suite>_<date>.jsonl` a suite. Of the harness's keys we write those that mean
something here. pass@1 becomes `exact_match,none`, pass@k `pass@k,none`. A sample without a verdict has no
`exact_match` (the harness would call it 0), and `n-samples` says how many tasks were asked and how many count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from posttrain.core.statistics import pass_at_k, verdicts
from posttrain.evaluation.summarise import Record


def lm_eval_files(
    records: Iterable[Record],
    *,
    model: str,
    pass_at: Sequence[int] = (1,),
    generation: Mapping[str, Any] | None = None,
    seed: int | None = None,
    time: datetime | None = None,
    versions: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """File name -> its text, for the caller to write. `generation` is how answers were drawn, `versions` name -> version,
    `time` the moment in the file names (none is now)."""
    generation, time = generation or {}, time or datetime.now(UTC)
    suites: dict[str, list[Record]] = {}
    for record in records:
        suites.setdefault(record.suite, []).append(record)
    stamp = time.isoformat().replace(":", "-")
    samples = {suite: _samples(rows, generation) for suite, rows in suites.items()}
    results = {
        "results": {suite: _result(suite, rows, sorted({1, *pass_at})) for suite, rows in suites.items()},
        "group_subtasks": {suite: [] for suite in suites},
        "configs": {suite: {"task": suite, "output_type": "generate_until", "generation_kwargs": generation} for suite in suites},
        "versions": dict.fromkeys(suites, 1),
        "n-shot": dict.fromkeys(suites, 0),
        "higher_is_better": {suite: {f"pass@{k}": True for k in pass_at if k > 1} | {"exact_match": True} for suite in suites},
        "n-samples": {
            suite: {"original": len({r.task_id for r in rows}), "effective": len(verdicts(rows))} for suite, rows in suites.items()
        },
        "config": {"model": "posttrain", "model_args": {"pretrained": model}, "gen_kwargs": generation, "random_seed": seed},
        "task_hashes": {
            suite: _hash("".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in rows))
            for suite, rows in samples.items()
        },
        "model_source": "posttrain",
        "model_name": model,
        "date": time.timestamp(),
        **{f"{name}_version": version for name, version in (versions or {}).items()},
    }
    files = {f"results_{stamp}.json": json.dumps(results, indent=2, ensure_ascii=False) + "\n"}
    for suite, rows in samples.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        files[f"samples_{re.sub(r'[^A-Za-z0-9_-]', '_', suite)}_{stamp}.jsonl"] = lines
    return files


def _result(suite: str, records: Sequence[Record], pass_at: Sequence[int]) -> dict[str, Any]:
    judged = verdicts(records)
    row: dict[str, Any] = {"alias": suite}
    for k in pass_at:
        name = "exact_match" if k == 1 else f"pass@{k}"
        estimates = [pass_at_k(len(v), sum(v), k) for v in judged.values() if len(v) >= k]
        row[f"{name},none"], row[f"{name}_stderr,none"] = _mean_and_error(estimates)
    return row


def _mean_and_error(values: Sequence[float]) -> tuple[float | str, float | str]:
    """Mean and its standard error over tasks; the harness writes "N/A" where there is none."""
    if len(values) < 2:
        return (values[0] if values else "N/A"), "N/A"
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, (variance / len(values)) ** 0.5


def _samples(records: Sequence[Record], generation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a task, its samples in `resps`."""
    tasks: dict[str, list[Record]] = {}
    for record in records:
        tasks.setdefault(record.task_id, []).append(record)
    return [_sample(number, rows, generation) for number, rows in enumerate(tasks.values())]


def _sample(number: int, rows: Sequence[Record], generation: Mapping[str, Any]) -> dict[str, Any]:
    first = rows[0]
    document = {
        "id": first.task_id,
        "prompt": [dict(message) for message in first.prompt],
        "answer": first.reference,
        **first.slices,
    }
    prompt = json.dumps(document["prompt"], ensure_ascii=False)
    judged = [row.passed for row in rows if row.grade_status == "scored" and row.passed is not None]
    verdict = {"exact_match": sum(judged) / len(judged)} if judged else {}
    return {
        "doc_id": number,
        "doc": document,
        "target": str(first.reference),
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": dict(generation)}},
        "resps": [[row.completion for row in rows]],
        "filtered_resps": [row.answer if row.answer is not None else "" for row in rows],
        "filter": "none",
        "metrics": list(verdict),
        "doc_hash": _hash(json.dumps(document, ensure_ascii=False)),
        "prompt_hash": _hash(prompt),
        "target_hash": _hash(str(first.reference)),
        **verdict,
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
