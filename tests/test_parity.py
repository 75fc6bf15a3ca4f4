"""The comparison with TRL (`make parity`) as far as it goes without TRL: our side, the cases, and whether a difference is found.

Our side is compared with itself, so a control that stays unfound or a comparison that cannot fail shows here already.
"""

from __future__ import annotations

import math
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from parity import cases, ours
from parity.cases import LONGEST, SEEDS, Outcome, RolloutCase, Row
from parity.compare import compared, differences, report
from parity.comparisons import LATER, NOT_COMPARED, Comparison, comparisons, controls, rl, uncompared
from posttrain.algorithms.family import FAMILY
from posttrain.algorithms.preference import LOSSES

RIGHT = comparisons()
WRONG = controls(RIGHT)
FEW = range(2)


def name(comparison: Comparison) -> str:
    return comparison.name


def counted(case: object) -> list[Row] | None:
    """The rows that the loss is about; None for rewards."""
    if isinstance(case, cases.PairCase):
        return case.chosen + case.rejected
    if isinstance(case, cases.RolloutCase | cases.LabelCase | cases.RowCase):
        return case.rows
    return None


def test_every_method_is_compared_or_says_why_not() -> None:
    assert uncompared() == set()
    assert set(NOT_COMPARED) <= {*FAMILY, *LOSSES}
    assert not set(NOT_COMPARED) & {each.method for each in RIGHT}
    assert {"sft", "reward_model"} <= {each.method for each in RIGHT}
    assert len({each.name for each in RIGHT + WRONG}) == len(RIGHT + WRONG)


@pytest.mark.parametrize("comparison", RIGHT, ids=name)
def test_our_side_gives_a_gradient_at_the_counted_tokens_alone(comparison: Comparison) -> None:
    case = comparison.case(0)
    found = comparison.ours(case)
    assert math.isfinite(found.loss) and found.gradient.isfinite().all() and found.gradient.any()
    if (rows := counted(case)) is not None:
        elsewhere = torch.ones(len(found.gradient), dtype=torch.bool)
        elsewhere[[token for row in rows for token in row.counted]] = False
        assert elsewhere.any() and not found.gradient[elsewhere].any()


@pytest.mark.parametrize("control", WRONG, ids=name)
def test_a_wrong_side_is_found(control: Comparison) -> None:
    right = next(each for each in RIGHT if each.theirs is control.theirs)
    assert compared(replace(right, theirs=right.ours), FEW).holds
    assert not compared(replace(control, theirs=right.ours), FEW).holds


def test_the_report_is_good_only_if_all_hold_and_all_controls_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    right = replace(rl("grpo", LATER), theirs=rl("grpo", LATER).ours)
    wrong = replace(next(each for each in WRONG if each.method == "grpo"), theirs=right.ours)
    assert report([right], [wrong], FEW)
    assert not report([right], [right], FEW)
    assert "NOT FOUND" in capsys.readouterr().out
    assert not report([wrong], [wrong], FEW)
    assert "DIFFERS" in capsys.readouterr().out
    assert not report([right], [wrong], ())  # no case shows nothing


def test_what_counts_as_a_difference() -> None:
    base = Outcome(20.0, torch.tensor([0.0, 0.002]))
    assert differences(Outcome(20.0001, torch.tensor([1e-8, 0.002])), base) == pytest.approx((5e-6, 5e-6), rel=0.01)
    broken = Outcome(math.nan, torch.tensor([0.0, math.nan]))
    always = Comparison("", "", lambda seed: seed, lambda _: base, lambda _: broken)
    assert not compared(always).holds
    nothing = Outcome(0.0, torch.zeros(2))
    assert not compared(replace(always, ours=lambda _: nothing, theirs=lambda _: nothing)).holds


# ------------------------------------------------------------------------------------------------ the cases


def by_token(case: RolloutCase) -> list[tuple[float, bool]]:
    """Of every counted token the ratio to the old policy, and whether its row's reward is above its group's mean."""
    ratio = (case.tables.policy - case.tables.old).exp()
    found = []
    for rows, rewards in zip(case.groups, case.rewards, strict=True):
        mean = sum(rewards) / len(rewards)
        for row, reward in zip(rows, rewards, strict=True):
            if abs(reward - mean) > 1e-3:
                found += [(float(ratio[token]), reward > mean) for token in row.counted]
    return found


def test_ratios_leave_the_clip_range_on_both_sides_under_advantages_of_both_signs() -> None:
    samples = [cases.rollouts(seed, moved=True, apart=True) for seed in SEEDS]
    tokens = [token for case in samples for token in by_token(case)]
    for low, high in ((0, 0.8), (0.8, 1), (1, 1.2), (1.2, 1.28), (1.28, 9)):
        for above in (True, False):
            assert sum(low < ratio <= high and side == above for ratio, side in tokens) > 5, (low, high, above)
    for case in samples:
        importance = (case.tables.old - case.tables.sampled).exp()
        assert (importance > 2).any() and (importance < 1).any()
        assert all((table <= 0).all() for table in vars(case.tables).values())


def test_a_rows_ratio_falls_inside_and_outside_the_range_of_gspo() -> None:
    found = set()
    for seed in SEEDS:
        case = cases.rollouts(seed, moved=True)
        for row in case.rows:
            ratio = float((case.tables.policy - case.tables.old)[row.counted].mean().exp())
            found.add("low" if ratio < 1 - 3e-4 else "high" if ratio > 1 + 4e-4 else "inside")
    assert found == {"low", "high", "inside"}


def test_rows_are_ragged_have_holes_and_share_prompts_longer_and_shorter_than_packing_shares() -> None:
    rollouts = [cases.rollouts(seed) for seed in SEEDS]
    rows = [row for case in rollouts for row in case.rows]
    assert len({len(row.tokens) for row in rows}) > 10 and all(len(row.tokens) - row.prompt <= LONGEST for row in rows)
    assert any(0 in row.mask[row.prompt :] for row in rows) and any(0 not in row.mask[row.prompt :] for row in rows)
    assert {row.prompt >= 8 for row in rows} == {True, False}
    assert {len(set(rewards)) == 1 for case in rollouts for rewards in case.rewards} == {True, False}
    assert any(sum(len(row.tokens) for row in group) > ours.BUDGET for case in rollouts for group in case.groups)
    assert all(row.mask[0] == 0 and any(row.mask) for row in rows)


def test_the_mismatched_answers_are_likelier_than_under_the_reference_or_less() -> None:
    """KTO's z is then above 0 and cut off at 0."""
    signs = set()
    for seed in SEEDS:
        case = cases.labelled(seed)
        ratio = case.tables.policy - case.tables.reference
        signs.add(sum(float(ratio[row.counted].sum()) for row in case.mismatched) > 0)
        assert {True, False} <= set(case.labels)
    assert signs == {True, False}


def test_make_says_how_to_get_trl(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(["make", "-s", "parity", f"trl={tmp_path}/python"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "make bench-setup" in done.stderr
