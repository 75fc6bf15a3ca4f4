"""The long parity gate: 100 steps of SFT with LoRA by ours and by TRL, each twice, so that there is noise to compare with.

Both sides are repeatable bit by bit, so a second run of the same program says nothing. Ours is run again with other
micro-batches, TRL's as it comes and tuned: equal in what they compute, different in how bf16 rounds. Takes most of an hour;
a curve that is there is not made again.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks import gate
from benchmarks.cases import CURVE_STEPS
from benchmarks.lanes import LANES, LORA, Arm
from benchmarks.protocol import Session, Work, fingerprint, keep, opened, sized_case

RUNS = {
    "ours": Arm("ours-sft", "ours"),
    "ours, other micro-batches": Arm("ours-sft", "ours", {"config": {"micro_batch_tokens": 512}}),
    "trl-tuned": Arm("trl-sft", "trl", {**LORA, "per_device": 8}),
    "trl": Arm("trl-sft", "trl"),
}


def compare(session: Session) -> dict[str, Any]:
    """Makes what is missing and says whether the curves lie within the noise."""
    lane = LANES["sft-lora"]
    work = Work("curves", lane, session, sized_case(lane, session))
    place = session.out / "curves.json"
    results = opened(place, fingerprint(lane, work.case), session.say)
    found = results.setdefault("curves", {})
    for label, arm in RUNS.items():
        if label not in found:
            found[label] = work.arm(label, arm, curve=CURVE_STEPS)["curve"]
            session.say(f"{label}: loss {found[label][0]:.4f} to {found[label][-1]:.4f}")
            keep(place, results)
    results["gate"] = gate.curves(*(found[label] for label in RUNS))
    keep(place, results)
    return dict(results["gate"])


def stored(session_out: Any) -> dict[str, Any] | None:
    place = session_out / "curves.json"
    return json.loads(place.read_text()).get("gate") if place.exists() else None
