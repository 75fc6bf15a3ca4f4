"""Whether a judge may train: only with a calibration of this very judge that found it good enough, or when it is accepted by name.

A judge is its wording, its settings and its models: a model behind an endpoint by name and address, one in a directory by the
content of its weights. Assumes that a name means one model; a provider that changes a model behind its name goes unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.core.config import JudgeGrader
from posttrain.core.errors import UserError
from posttrain.graders.judge.prompts import VERSION

MEANS = (
    "criteria",
    "compare",
    "question",
    "show_reference",
    "reasoning",
    "combine",
    "quorum",
    "pass_at",
    "probabilities",
    "max_tokens",
    "temperature",
)
"""The settings that a verdict depends on."""


def identity(config: JudgeGrader, references: Mapping[str, str]) -> str:
    """A hash of all that its verdicts depend on. `references` says what each local model's name stands for."""
    models = [each.name if each.model is None else weights(references.get(each.model, each.model)) for each in config.models]
    value = {"version": VERSION, "models": models, **{name: getattr(config, name) for name in MEANS}}
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()[:32]


def weights(target: str) -> str:
    """A directory of weights by its content, anything else by its name."""
    files = sorted(Path(target).expanduser().glob("*.safetensors"))
    if not files:
        return target
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            whole.update(hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()


def read_calibration(path: str) -> dict[str, Any]:
    """What `posttrain graders calibrate` wrote."""
    file = Path(path).expanduser()
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"calibration {path} cannot be read: {error.strerror}.", fix="Run: posttrain graders calibrate JUDGE"
        ) from None
    except ValueError:
        value = None
    if not (isinstance(value, dict) and isinstance(value.get("judge"), str) and isinstance(value.get("trusted"), bool)):
        raise UserError(f"{path} is not a judge's calibration.", fix="Write one with: posttrain graders calibrate JUDGE")
    return value


def doubt(config: JudgeGrader, references: Mapping[str, str] | None) -> str:
    """Why this judge may not train; empty where it may. Without `references` its identity is not compared (its models may have yet
    to be made)."""
    if config.calibration is None:
        return "no calibration shows that it can be trusted"
    found = read_calibration(config.calibration)
    if references is not None and found["judge"] != identity(config, references):
        return f"{Path(config.calibration).name} was measured on another judge (other settings, models or wording)"
    if not found["trusted"]:
        reasons = found.get("reasons")
        why = "; ".join(str(reason) for reason in reasons) if isinstance(reasons, list) else ""
        return f"its calibration does not trust it: {why or 'no reason given'}"
    return ""


def require_trust(config: JudgeGrader, references: Mapping[str, str] | None) -> str:
    """Refuse an untrusted judge, unless it is accepted by name: then the doubt is returned, to be shown."""
    why = doubt(config, references)
    if why and not config.accept_untrusted_judge:
        raise UserError(
            f"this stage would train on a judge's grades, and {why}.",
            fix="Calibrate it (docs/judges.md) and name the result in calibration, or set accept_untrusted_judge: true.",
        )
    return why
