"""Monitors that read the groups of the last step. Each says what it means and when it is a false alarm."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

from posttrain.core.text import pieces, repeated_share
from posttrain.monitors.decision import Decision, Groups, History, Severity, rollouts


def unscored(history: History, groups: Groups, *, limit: float = 0.2, warn_above: float = 0.01) -> Decision | None:
    """Samples without a score: the grader broke, was silent or timed out, or the rollout failed. No answer is not a zero, so
    they do not train; too many and the rest is a biased sample.

    False alarm: a handful in a small step; one sample alone is a note.
    """
    samples = rollouts(groups)
    missing = [r for r in samples if r.status == "failed" or r.grade is None or r.grade.status != "scored"]
    if not samples or len(missing) / len(samples) <= warn_above:
        return None
    severity: Severity = "stop" if len(missing) / len(samples) > limit else "warn" if len(missing) > 1 else "note"
    reasons = Counter(r.failure or (r.grade.explanation if r.grade else "") or "no reason given" for r in missing)
    common = reasons.most_common(1)[0][0][:200]
    return Decision(severity, "unscored", f"{len(missing)} of {len(samples)} samples have no score; most often: {common}")


def repetition(history: History, groups: Groups, *, share: float = 0.3, least: int = 8) -> Decision | None:
    """The model loops: a large share of the 4-grams of its answers stood in the same answer before.

    Looks at answers of 20 words and more, and at no fewer than `least` of them. False alarm: tables, code, long lists.
    """
    shares = [repeated_share(r.text) for r in rollouts(groups) if len(pieces(r.text)) >= 20]
    if len(shares) < least or fmean(shares) <= share:
        return None
    return Decision("warn", "repetition", f"{fmean(shares):.0%} of the 4-grams in an answer are repetitions; the model loops")


def duplicates(history: History, groups: Groups, *, unique: float = 0.5, least: int = 4) -> Decision | None:
    """The samples of one task are mostly the same text: exploration is over, though not all of them pass.

    Looks at groups of `least` samples and more whose texts have 8 words or more and which did not all pass. False alarm: a task
    that has one way to be answered.
    """
    shares = []
    for group in groups:
        texts = [r.text for r in group.rollouts if len(pieces(r.text)) >= 8]
        solved = all(r.grade is not None and r.grade.passed for r in group.rollouts)
        if len(texts) >= least and not solved:
            shares.append(len(set(texts)) / len(texts))
    if len(shares) < 2 or fmean(shares) >= unique:
        return None
    return Decision("warn", "duplicates", f"only {fmean(shares):.0%} of the samples of a task differ from each other")


def same_answer(history: History, groups: Groups, *, share: float = 0.5, least: int = 8) -> Decision | None:
    """One answer is given to different tasks, far more often than it is right: the policy collapsed onto a lucky guess, or
    found a text that the grader accepts.

    False alarm: a set where most tasks truly have the same answer; such an answer is compared with its share of references.
    """
    answers = Counter(r.grade.answer for r in rollouts(groups) if r.grade is not None and r.grade.answer is not None)
    references = [group.task.answer for group in groups]
    if len(groups) < least or not answers or len(set(references)) < 2:
        return None
    answer, count = answers.most_common(1)[0]
    given, right = count / answers.total(), references.count(answer) / len(references)
    if given <= share or given <= 2 * right:
        return None
    return Decision(
        "warn", "same_answer", f"{given:.0%} of the samples answer {answer[:40]!r}, which is right for {right:.0%} of the tasks"
    )
