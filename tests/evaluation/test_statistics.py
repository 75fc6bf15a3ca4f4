"""Hand-worked numbers for every statistic."""

import itertools
import math
from statistics import fmean
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.evaluation.statistics import best_of_n_kl, changes, interval, mcnemar, paired, pass_at_k, verdicts, wilson


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(4, 1, 2) == 0.5  # of the 6 pairs of 4 samples, 3 hold the correct one
    assert pass_at_k(5, 2, 3) == pytest.approx(1 - 1 / 10)  # of 10 triples only the three wrong ones fail
    assert pass_at_k(3, 3, 1) == 1.0
    assert pass_at_k(3, 0, 3) == 0.0
    assert pass_at_k(3, 1, 3) == 1.0


def test_pass_at_k_refuses_more_than_was_drawn() -> None:
    with pytest.raises(ValueError, match="pass@4 of 3 samples"):
        pass_at_k(3, 1, 4)


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.integers(1, 7))
def test_pass_at_k_equals_enumeration(samples: list[bool], k: int) -> None:
    k = min(k, len(samples))
    subsets = list(itertools.combinations(samples, k))
    assert pass_at_k(len(samples), sum(samples), k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_wilson_by_hand() -> None:
    # z = 1.959964, z² = 3.841459. 8 of 10: centre (0.8 + 0.192073) / 1.384146, half z·sqrt(0.016 + 0.009604) / 1.384146
    got = wilson(8, 10)
    assert (got.value, got.n) == (0.8, 10)
    assert got.low == pytest.approx(0.490162, abs=1e-6)
    assert got.high == pytest.approx(0.943318, abs=1e-6)


def test_wilson_is_not_certain_at_the_ends() -> None:
    assert wilson(0, 10).low == 0.0
    assert wilson(0, 10).high == pytest.approx(3.841459 / 13.841459, abs=1e-6)  # z²/(n+z²)
    assert wilson(10, 10).low == pytest.approx(10 / 13.841459, abs=1e-6)
    assert wilson(0, 0).value is None


def test_one_sample_a_task_is_wilson() -> None:
    tasks = {str(i): [i < 8] for i in range(10)}
    assert interval(tasks) == wilson(8, 10)


def test_several_samples_do_not_count_as_more_tasks() -> None:
    """10 tasks, 8 of them always right: a hundred copies of each sample must not narrow the interval."""
    once = {str(i): [i < 8] * 2 for i in range(10)}
    often = {str(i): [i < 8] * 100 for i in range(10)}
    assert interval(once) == interval(often)
    wide = interval(often)
    assert wide.n == 10 and wide.value == pytest.approx(0.8)
    assert wide.low is not None and wide.high is not None
    assert wide.low < 0.62 and wide.high > 0.93  # as if 10 draws, not 1000 (which would give about 0.775 to 0.824)


def test_bootstrap_matches_the_exact_resampling_distribution() -> None:
    """Two tasks with rates 0 and 1: resampled means are 0, 1/2, 1 with chances 1/4, 1/2, 1/4, so the limits are 0 and 1."""
    got = interval({"a": [False, False], "b": [True, True]})
    assert (got.value, got.low, got.high) == (0.5, 0.0, 1.0)


def test_all_right_is_not_certainty_with_several_samples() -> None:
    assert interval({str(i): [True] * 4 for i in range(10)}) == wilson(10, 10)


def test_pass_at_k_interval_leaves_out_tasks_with_too_few_samples() -> None:
    got = interval({"a": [True, False, False, False], "b": [False] * 4, "c": [True]}, k=2)
    assert got.n == 2
    assert got.value == pytest.approx(0.25)
    assert interval({"a": [True]}, k=2).value is None


def test_mcnemar_by_hand() -> None:
    assert mcnemar(5, 0) == 2 / 32
    assert mcnemar(3, 1) == 2 * (1 + 4) / 16
    assert mcnemar(2, 2) == 1.0
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(600, 400) < 1e-9  # exact, and no overflow


def test_paired_single_answers() -> None:
    before = {f"t{i}": [i >= 5] for i in range(20)}  # 5 wrong
    after = {f"t{i}": [True] for i in range(20)} | {"only after": [True]}
    got = paired(before, after)
    assert (got.n, got.fixed, got.regressed, got.method) == (20, 5, 0, "McNemar exact")
    assert got.difference == 0.25
    assert got.p_value == 2 / 32
    # Bonett-Price: (6 - 1)/22 ± 1.959964·sqrt((7/22 - (5/22)²)/22)
    half = 1.959964 * math.sqrt((7 / 22 - (5 / 22) ** 2) / 22)
    assert got.low == pytest.approx(5 / 22 - half, abs=1e-6)
    assert got.high == pytest.approx(5 / 22 + half, abs=1e-6)


def test_paired_direction() -> None:
    worse = paired({str(i): [True] for i in range(12)}, {str(i): [i % 2 == 0] for i in range(12)})
    assert worse.difference == -0.5 and worse.regressed == 6 and worse.high is not None and worse.high < 0


def test_paired_bootstrap() -> None:
    before = {str(i): [False, False, True, False] for i in range(30)}
    after = {str(i): [True, True, True, i % 2 == 0] for i in range(30)}
    got = paired(before, after)
    assert got.method.startswith("paired bootstrap")
    assert got.difference == pytest.approx(0.625)
    assert got.p_value == pytest.approx(2 / 2001)
    assert got.low is not None and got.high is not None and 0.5 < got.low < 0.625 < got.high < 0.75
    same = paired(before, before)
    assert same.p_value == 1.0 and same.difference == 0.0


def test_paired_without_common_tasks_has_no_number() -> None:
    got = paired({"a": [True]}, {"b": [True]})
    assert got.p_value is None and got.n == 0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_paired_is_antisymmetric(pairs: list[tuple[bool, bool]]) -> None:
    before = {str(i): [a] for i, (a, _) in enumerate(pairs)}
    after = {str(i): [b] for i, (_, b) in enumerate(pairs)}
    there, back = paired(before, after), paired(after, before)
    assert there.p_value == back.p_value
    assert there.difference == pytest.approx(-(back.difference or 0.0))
    assert there.low is not None and back.high is not None
    assert there.low == pytest.approx(-back.high)


def test_changes() -> None:
    before = {"a": [False], "b": [True], "c": [False], "d": [True], "e": [False], "gone": [True], "half": [True, False]}
    after = {"a": [True], "b": [False], "c": [False], "d": [True], "e": [], "half": [False, False]}
    got = changes(before, after)
    assert (got.fixed, got.regressed, got.still_wrong, got.still_right) == (("a",), ("b", "half"), ("c",), ("d",))


def test_best_of_n_kl() -> None:
    assert best_of_n_kl(1) == 0.0
    assert best_of_n_kl(2) == pytest.approx(math.log(2) - 0.5)
    assert best_of_n_kl(8) == pytest.approx(2.0794415 - 0.875)


def test_best_of_n_kl_equals_the_enumerated_divergence() -> None:
    """Best of 4 of M equally likely, strictly ranked answers: KL -> log 4 - 3/4 as M grows."""
    m, n = 4000, 4
    chances = [((i + 1) / m) ** n - (i / m) ** n for i in range(m)]
    assert sum(p * math.log(p * m) for p in chances) == pytest.approx(best_of_n_kl(n), abs=1e-3)


def test_verdicts_leave_out_what_was_not_judged() -> None:
    def row(task: str, passed: bool | None, status: str = "scored") -> SimpleNamespace:
        return SimpleNamespace(task_id=task, passed=passed, grade_status=status)

    rows = [row("a", True), row("a", None, "error"), row("b", None, "unscored"), row("c", None), row("a", False)]
    assert verdicts(rows) == {"a": [True, False]}
    assert fmean(verdicts(rows)["a"]) == 0.5
