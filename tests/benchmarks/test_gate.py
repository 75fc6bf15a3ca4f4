"""The parity gate: passes for two programs that do the same, and says what is not the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gate
from benchmarks.cases import adapter
from benchmarks.digest import digest
from posttrain.models.toy import make_toy


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two steps of two rows on a random toy model."""
    folder = tmp_path_factory.mktemp("case")
    model = make_toy(folder / "toy", size="tiny")
    rows = [
        {"tokens": [(7 * row + 3 * place) % 250 for place in range(12 + row)], "mask": [0] * 6 + [1] * (6 + row)}
        for row in range(4)
    ]
    return {
        "model": str(model),
        "rows": rows,
        "batch": 2,
        "steps": 1,
        "units": 1,
        "digest": digest((row["tokens"], row["mask"]) for row in rows[:2]),
        "adapter": str(adapter(model, folder)),
        "rank": 16,
        "alpha": 32,
        "learning_rate": 1e-3,
    }


def given(case: dict[str, Any], folder: Path, **more: Any) -> dict[str, Any]:
    place = folder / "case.json"
    place.write_text(json.dumps(case))
    return {"case": str(place), "settings": {}, "seconds": 0, **more}


@pytest.mark.parametrize("settings", [{}, {"full": True}])
def test_ours_passes_beside_plain_fp32(case, tmp_path, settings):
    from benchmarks.workers.ours_training import sft
    from benchmarks.workers.reference import sft as reference

    specification = given(case, tmp_path, settings=settings)
    plain, ours = reference(specification), sft(specification)
    if "float32" in ours["precision"]["compute"]:  # the toy is saved in fp32, which is another class and shall be said
        assert any("precision class" in wrong for wrong in gate.first_step("ours", ours, plain, case["digest"]))
        ours["precision"]["compute"] = "bfloat16"
    assert gate.first_step("ours", ours, plain, case["digest"]) == []
    assert ours["measured_steps"] == 1


def test_a_wrong_mask_is_found(case, tmp_path):
    """One token too many carries a loss: the program's rows are not the case's, and its loss is not fp32's."""
    from benchmarks.workers.ours_training import sft
    from benchmarks.workers.reference import sft as reference

    wrong = json.loads(json.dumps(case))
    wrong["rows"][0]["mask"][2] = 1
    plain = reference(given(case, tmp_path))
    ours = sft(given(wrong, tmp_path))
    ours["precision"]["compute"] = "bfloat16"
    found = gate.first_step("ours", ours, plain, case["digest"])
    assert "other ids, masks or another order" in found[0]
    assert any("grad_norm" in line or "loss" in line for line in found[1:])


GOOD = {"digest": "d", "loss": 2.0, "grad_norm": 1.0, "precision": {"compute": "bfloat16", "masters": "float32"}}


def test_one_percent_is_the_limit_and_nan_is_beyond_it():
    assert gate.first_step("x", {**GOOD, "loss": 2.0199}, GOOD, "d") == []
    assert "1.1%" in gate.first_step("x", {**GOOD, "loss": 2.022}, GOOD, "d")[0]
    assert len(gate.first_step("x", {**GOOD, "grad_norm": float("nan")}, GOOD, "d")) == 1


def test_weights_in_bf16_are_another_class():
    mixed = {**GOOD, "precision": {"compute": "bfloat16", "masters": "bfloat16"}}
    assert "another precision class" in gate.first_step("x", mixed, GOOD, "d")[0]


def test_first_tokens_may_differ_only_where_fp32_is_not_clear():
    plain = {"first_tokens": [5, 6, 7], "leads": [2.0, 0.01, 1.0]}
    found = {"digest": "d", "precision": {"compute": "bfloat16"}, "first_tokens": [5, 9, 7]}
    assert gate.first_tokens("x", found, plain, "d") == []
    assert "after 1 prompts" in gate.first_tokens("x", {**found, "first_tokens": [5, 9, 8]}, plain, "d")[0]


def test_curves_are_compared_with_the_noise_of_equal_runs():
    ours, noisy = [1.0, 0.9, 0.8], [1.004, 0.896, 0.804]
    near = gate.curves(ours, noisy, [1.003, 0.903, 0.797], [1.0, 0.9, 0.8])
    assert near["passed"] and near["allowed"] == pytest.approx(0.004)
    far = gate.curves(ours, noisy, [1.1, 1.0, 0.9], [1.1, 1.0, 0.9])
    assert not far["passed"] and far["between"]["median"] == pytest.approx(0.1)
