"""Monitors that read the history of metrics. Each says what it means and when it is a false alarm.

Thresholds are keyword arguments. Those from a paper say so; the others are engineering choices, to be set from a pilot run.
"""

from __future__ import annotations

import math
from statistics import fmean

from posttrain.monitors.decision import Decision, Groups, History, Severity, gained, series, standard_error, start_and_now


def not_finite(history: History, groups: Groups) -> Decision | None:
    """A metric of the last step is NaN or infinite. In the loss or the gradient norm, the next step would spoil the weights.

    False alarm: a part that no rollout of the step was judged on has no mean.
    """
    last = history[-1] if history else {}
    bad = sorted(name for name, value in last.items() if isinstance(value, float) and not math.isfinite(value))
    if not bad:
        return None
    severity: Severity = "stop" if {"loss", "grad_norm"} & set(bad) else "warn"
    return Decision(severity, "not_finite", f"{', '.join(bad)} {'is' if len(bad) == 1 else 'are'} not a finite number")


def gap(history: History, groups: Groups, *, budget: float = 0.15) -> Decision | None:
    """Sampler and trainer disagree about the probability of the sampled tokens: they do not hold the same policy, and the
    importance ratio is wrong. Budget: mean absolute log-probability difference per token, in nats.

    False alarm: hardly one. Low precision alone stays far below the default.
    """
    values = series(history[-1:], "gap/mean")
    if not values or values[0] <= budget:
        return None
    text = f"sampler and trainer differ by {values[0]:.3f} nats a token (budget {budget:g}): they hold different policies"
    return Decision("stop", "gap", text)


def kl(
    history: History, groups: Groups, *, budget: float | None = None, factor: float = 10, floor: float = 0.5, window: int = 5
) -> Decision | None:
    """The policy runs away from its reference. With a budget (nats per token): warn above it, stop at three times.
    Without one: warn when the last steps' mean is `factor` times the median of the steps before and above `floor`.

    False alarm: a first stage that must learn a new format moves far from its reference on few tokens, and settles.
    """
    values = series(history, "kl/k1")
    if len(values) < window:
        return None
    now = fmean(values[-window:])
    if budget is not None:
        if now <= budget:
            return None
        severity: Severity = "stop" if now > 3 * budget else "warn"
        return Decision(severity, "kl", f"KL to the reference is {now:.3g} nats per token (budget {budget:g})")
    before = sorted(values[:-window])
    if len(before) < window or now <= floor or now <= factor * max(before[len(before) // 2], 0.0):
        return None
    return Decision("warn", "kl", f"KL to the reference rose to {now:.3g} nats per token, over {factor:g} times what it was")


def entropy(history: History, groups: Groups, *, share: float = 0.1, window: int = 3) -> Decision | None:
    """Entropy fell below `share` of where it began: samples of a task become equal and nothing is left to learn from.

    False alarm: entropy falls in every successful run (arXiv:2505.22617), so it is a note while the pass rate has risen.
    """
    found = start_and_now(history, "entropy", window)
    if found is None or found[0] <= 0 or found[1] >= share * found[0]:
        return None
    start, now = found
    severity: Severity = "note" if gained(history, window) else "warn"
    return Decision(severity, "entropy", f"entropy fell from {start:.3g} to {now:.3g} nats per token; samples are nearly equal")


def length(history: History, groups: Groups, *, factor: float = 2, window: int = 5) -> Decision | None:
    """Answers became `factor` times as long without a gain in the pass rate: length is rewarded, or the model rambles.

    False alarm: a reward that arrives late, where longer reasoning comes before better answers.
    """
    found = start_and_now(history, "length/mean", window)
    if found is None or found[1] <= factor * found[0] or gained(history, window):
        return None
    return Decision("warn", "length", f"answers grew from {found[0]:.0f} to {found[1]:.0f} tokens and the pass rate did not rise")


def truncation(history: History, groups: Groups, *, share: float = 0.1, window: int = 3) -> Decision | None:
    """Many answers are cut off at the length limit, which teaches that thinking is punished at random.

    False alarm: the first steps of a base model that does not stop by itself.
    """
    values = series(history, "length/truncated")
    if len(values) < window or fmean(values[-window:]) <= share:
        return None
    return Decision("warn", "truncation", f"{fmean(values[-window:]):.0%} of the answers are cut off at max_tokens")


def no_signal(history: History, groups: Groups, *, share: float = 0.8, window: int = 5) -> Decision | None:
    """Most groups have equal rewards, so they carry no gradient: the tasks are too easy or too hard for the model.

    False alarm: the end of a run that has solved its tasks.
    """
    values = series(history, "groups/zero_variance")
    if len(values) < window or fmean(values[-window:]) <= share:
        return None
    passed = series(history, "passed")
    easy = bool(passed) and fmean(passed[-window:]) > 0.5
    advice = "the tasks are too easy now: use harder ones" if easy else "the tasks are too hard: use easier ones or more samples"
    return Decision("warn", "no_signal", f"{fmean(values[-window:]):.0%} of the groups have equal rewards; {advice}")


def reward_hacked(history: History, groups: Groups, *, drop: float = 0.05, window: int = 5) -> Decision | None:
    """The reward rises while the pass rate falls: the model earns from the other parts of the reward. Stops when it was so a
    window ago as well.

    Compares the last window with the best earlier one, and asks for a drop of three standard errors because the best of many
    is partly luck. False alarm: the mix of tasks became harder (dynamic sampling, a curriculum).
    """
    if not _disagree(history, drop, window):
        return None
    lasting = _disagree(history[:-window], drop, window)
    return Decision(
        "stop" if lasting else "warn",
        "reward_hacked",
        f"the reward rises while the pass rate falls{', twice in a row' if lasting else ''}: look at the parts of the reward",
    )


def _disagree(history: History, drop: float, window: int) -> bool:
    rows = [row for row in history if len(series([row], "passed")) == len(series([row], "reward/mean")) == 1]
    if len(rows) < 2 * window:
        return False
    passed, reward = series(rows, "passed"), series(rows, "reward/mean")
    starts = range(len(rows) - 2 * window + 1)
    best = max(starts, key=lambda start: fmean(passed[start : start + window]))
    then, now = slice(best, best + window), slice(len(rows) - window, None)
    fell = fmean(passed[then]) - fmean(passed[now])
    rose = fmean(reward[now]) - fmean(reward[then])
    noise_passed = math.hypot(standard_error(passed[then]), standard_error(passed[now]))
    noise_reward = math.hypot(standard_error(reward[then]), standard_error(reward[now]))
    return fell > max(drop, 3 * noise_passed) and rose > max(0.0, 2 * noise_reward)
