"""posttrain graders test --report: rates with intervals, the failing cases by name, JSON for a program, and wrong arguments."""

from __future__ import annotations

import json
from collections.abc import Callable


def test_a_verifier_with_mistakes_names_them(posttrain: Callable) -> None:
    shown = posttrain("graders", "test", "language", "--report")
    assert shown.code == 0
    assert "language" in shown.out and "of 4" in shown.out and "%" in shown.out
    assert "language: false accept (neighbour)" in shown.out


def test_json_has_rates_with_limits(posttrain: Callable) -> None:
    (found,) = json.loads(posttrain("graders", "test", "instruction", "--report", "--json").out)
    assert found["kind"] == "instruction" and found["cases"] >= 40
    for name in ("false_accepts", "false_rejects", "no_verdict"):
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    assert found["false_accepts"]["value"] == 0.0
    assert all({"place", "fault", "text", "explanation"} <= set(case) for case in found["failing"])


def test_wrong_arguments_are_told(posttrain: Callable) -> None:
    for arguments, said in (
        (("length", "--report"), "length has no labelled set"),
        (("math", "--report", "--set", "extract=boxed"), "--set does not go with --report"),
        ((), "which grader?"),
    ):
        refused = posttrain("graders", "test", *arguments)
        assert refused.code == 2 and said in refused.err
