"""Each monitor on a history that must make it fire and on the nearest one that must not."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from posttrain.core.types import Grade, Group, Message, Rollout, Sampling, Task, TokenRow, floats, ints
from posttrain.monitors import MONITORS, Decision, watch


def history(steps: int = 20, **metrics: Callable[[int], float]) -> list[dict[str, float]]:
    return [{"step": step, **{name.replace("__", "/"): f(step) for name, f in metrics.items()}} for step in range(steps)]


def only(name: str, rows: Sequence[dict[str, float]], groups: Sequence[Group] = (), **settings: float) -> Decision | None:
    return MONITORS[name](rows, groups, **settings)


def group(number: int, texts: Sequence[str], grades: Sequence[Grade | None], answer: str = "2") -> Group:
    task = Task(f"t{number}", (Message("user", "?"),), answer)
    row = TokenRow(ints([1]), ints([1]), floats([-0.5]), ints([0]))
    rollouts = tuple(
        Rollout(task, i, (*task.messages, Message("assistant", text)), (row,), Sampling(), grade=grade)
        for i, (text, grade) in enumerate(zip(texts, grades, strict=True))
    )
    return Group(task, rollouts)


RIGHT, WRONG = Grade(1.0, True, answer="2"), Grade(0.0, False, answer="3")


def test_a_healthy_run_says_nothing() -> None:
    noise = random.Random(0)
    rows = history(
        60,
        passed=lambda s: 0.2 + 0.01 * s + noise.gauss(0, 0.03),
        reward__mean=lambda s: 0.3 + 0.01 * s + noise.gauss(0, 0.03),
        entropy=lambda s: 0.8 - 0.01 * s,
        kl__k1=lambda s: 0.002 * s,
        length__mean=lambda s: 60 + s / 4,
        length__truncated=lambda s: 0.02,
        groups__zero_variance=lambda s: 0.4,
        gap__mean=lambda s: 0.01,
        loss=lambda s: 0.1,
    )
    groups = [
        group(i, [f"the sum of the two numbers {j} is {i}" for j in range(4)], [RIGHT, WRONG, RIGHT, WRONG]) for i in range(8)
    ]
    for steps in range(1, 61):
        assert watch(rows[:steps], groups) == []


def test_gap_stops_above_its_budget() -> None:
    assert only("gap", history(3, gap__mean=lambda s: 0.15)) is None
    got = only("gap", history(3, gap__mean=lambda s: 0.16))
    assert got is not None and got.severity == "stop" and "0.160" in got.text
    assert only("gap", history(3, gap__mean=lambda s: 0.16), budget=0.2) is None
    assert only("gap", history(3, gap__mean=lambda s: 0.9 if s < 2 else 0.01)) is None  # the last step counts


def test_not_finite() -> None:
    got = only("not_finite", history(2, loss=lambda s: math.nan if s else 0.1))
    assert got is not None and got.severity == "stop"
    got = only("not_finite", history(2, kl__k1=lambda s: math.inf))
    assert got is not None and got.severity == "warn" and "kl/k1" in got.text
    assert only("not_finite", history(2, loss=lambda s: 0.1 if s else math.nan)) is None


def test_kl_with_a_budget() -> None:
    assert only("kl", history(10, kl__k1=lambda s: 0.1), budget=0.1) is None
    got = only("kl", history(10, kl__k1=lambda s: 0.25), budget=0.1)
    assert got is not None and got.severity == "warn"
    got = only("kl", history(10, kl__k1=lambda s: 0.31), budget=0.1)
    assert got is not None and got.severity == "stop"


def test_kl_against_its_own_past() -> None:
    assert only("kl", history(30, kl__k1=lambda s: 0.02 if s < 25 else 0.9)) is not None
    assert only("kl", history(30, kl__k1=lambda s: 0.001 if s < 25 else 0.4)) is None  # below the floor
    assert only("kl", history(30, kl__k1=lambda s: 0.1 + 0.05 * s)) is None  # a steady climb
    assert only("kl", history(4, kl__k1=lambda s: 9.0)) is None  # too early to say


def test_entropy_is_a_note_while_the_pass_rate_rises() -> None:
    def falls(step: int) -> float:
        return 1.0 if step < 5 else 0.05

    got = only("entropy", history(20, entropy=falls, passed=lambda s: 0.3))
    assert got is not None and got.severity == "warn"
    got = only("entropy", history(20, entropy=falls, passed=lambda s: 0.3 + 0.02 * s))
    assert got is not None and got.severity == "note"
    assert only("entropy", history(20, entropy=lambda s: 1.0 - 0.04 * s, passed=lambda s: 0.3)) is None


def test_length_without_gain() -> None:
    got = only("length", history(20, length__mean=lambda s: 40 + 10 * s, passed=lambda s: 0.3))
    assert got is not None and "60 to 210" in got.text
    assert only("length", history(20, length__mean=lambda s: 40 + 10 * s, passed=lambda s: 0.3 + 0.02 * s)) is None
    assert only("length", history(20, length__mean=lambda s: 40 + s, passed=lambda s: 0.3)) is None


def test_truncation() -> None:
    assert only("truncation", history(5, length__truncated=lambda s: 0.3)) is not None
    assert only("truncation", history(5, length__truncated=lambda s: 0.3 if s == 4 else 0.0)) is None  # 0.1 on average


def test_no_signal_says_which_way_to_go() -> None:
    got = only("no_signal", history(6, groups__zero_variance=lambda s: 0.9, passed=lambda s: 0.95))
    assert got is not None and "too easy" in got.text
    got = only("no_signal", history(6, groups__zero_variance=lambda s: 0.9, passed=lambda s: 0.0))
    assert got is not None and "too hard" in got.text
    assert only("no_signal", history(6, groups__zero_variance=lambda s: 0.8)) is None


def test_reward_up_and_passed_down() -> None:
    def passed(step: int) -> float:
        return min(0.5, 0.05 * step) if step < 15 else 0.5 - 0.04 * (step - 14)

    rows = history(30, passed=passed, reward__mean=lambda s: 0.1 + 0.03 * s)
    severities = [d.severity if (d := only("reward_hacked", rows[:n])) else "" for n in range(1, 31)]
    assert severities[:17] == [""] * 17  # not while it still learns
    assert "warn" in severities and severities[-1] == "stop"
    assert severities.index("warn") < severities.index("stop")


def test_passed_down_with_the_reward_down_is_not_hacking() -> None:
    rows = history(30, passed=lambda s: 0.6 - 0.01 * s, reward__mean=lambda s: 0.6 - 0.01 * s)
    assert only("reward_hacked", rows) is None


def test_noise_alone_is_rarely_hacking() -> None:
    """Two hundred runs of 40 steps where nothing changes but noise: none may be stopped, few may be warned about."""
    fired = {"warn": 0, "stop": 0}
    for seed in range(200):
        noise = random.Random(seed)
        rows = history(40, passed=lambda s, n=noise: n.gauss(0.4, 0.04), reward__mean=lambda s, n=noise: n.gauss(0.5, 0.04))
        decision = only("reward_hacked", rows)
        if decision:
            fired[decision.severity] += 1
    assert fired["stop"] == 0
    assert fired["warn"] <= 6


def test_unscored() -> None:
    silent = Grade.unscored("the judge did not answer")
    ten = [group(0, ["a"] * 10, [silent] * 3 + [RIGHT] * 7)]
    got = only("unscored", [], ten)
    assert got is not None and got.severity == "stop" and "the judge did not answer" in got.text
    got = only("unscored", [], ten, limit=0.3)
    assert got is not None and got.severity == "warn"
    got = only("unscored", [], [group(0, ["a"] * 10, [None] + [RIGHT] * 9)])
    assert got is not None and got.severity == "note"
    assert only("unscored", [], [group(0, ["a"] * 10, [WRONG] * 10)]) is None  # wrong is a score
    assert only("unscored", [], []) is None


def test_repetition() -> None:
    loop = "so the answer is " * 10
    assert only("repetition", [], [group(0, [loop] * 8, [WRONG] * 8)]) is not None
    assert only("repetition", [], [group(0, ["aaaa" * 30] * 8, [WRONG] * 8)]) is not None
    words = " ".join(f"word{i}" for i in range(40))
    assert only("repetition", [], [group(0, [words] * 8, [WRONG] * 8)]) is None
    assert only("repetition", [], [group(0, ["4 4 4 4 4 4"] * 8, [WRONG] * 8)]) is None  # short answers may repeat


def test_duplicates_matter_only_where_not_all_pass() -> None:
    same = "the answer to this question is of course 12"
    assert only("duplicates", [], [group(i, [same] * 4, [WRONG] * 4) for i in range(2)]) is not None
    assert only("duplicates", [], [group(i, [same] * 4, [RIGHT] * 4) for i in range(2)]) is None
    assert only("duplicates", [], [group(i, [same + str(j) for j in range(4)], [WRONG] * 4) for i in range(2)]) is None
    assert only("duplicates", [], [group(i, ["12"] * 4, [WRONG] * 4) for i in range(2)]) is None


def test_same_answer_for_different_tasks() -> None:
    groups = [group(i, ["3"] * 2, [WRONG] * 2, answer=str(i)) for i in range(8)]
    got = only("same_answer", [], groups)
    assert got is not None and "'3'" in got.text and "12%" in got.text
    assert only("same_answer", [], [group(i, ["3"] * 2, [WRONG] * 2, answer="3" if i else "4") for i in range(8)]) is None
    assert only("same_answer", [], groups[:7]) is None


def test_watch_puts_the_gravest_first_and_passes_settings() -> None:
    rows = history(6, gap__mean=lambda s: 0.2, length__truncated=lambda s: 0.5)
    assert [d.monitor for d in watch(rows, [])] == ["gap", "truncation"]
    assert [d.monitor for d in watch(rows, [], settings={"gap": {"budget": 0.3}})] == ["truncation"]
    assert watch([], []) == []


def test_an_unknown_monitor_is_named() -> None:
    with pytest.raises(ValueError, match=r"'gaps' is not a monitor. Did you mean gap\?"):
        watch([], [], settings={"gaps": {}})


def test_every_monitor_explains_its_false_alarm() -> None:
    for name, monitor in MONITORS.items():
        assert "False alarm:" in (monitor.__doc__ or ""), name


def test_monitors_and_diagnosis_do_not_import_torch() -> None:
    code = "import sys, posttrain.monitors, posttrain.diagnosis, posttrain.evaluation; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
