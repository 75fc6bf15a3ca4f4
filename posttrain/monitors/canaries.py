"""A judge that is not the judge it was: what its canaries say (graders/judge/canaries.py)."""

from __future__ import annotations

from posttrain.monitors.decision import Decision, Groups, History, series


def canaries(history: History, groups: Groups, *, rise: float = 0.25, most: float | None = None) -> Decision | None:
    """Answers without merit pass the judge, more of them than at its first check, or more than `most`; or right ones no longer do.

    False alarm: a criterion that such answers really meet; its share is high from the first check on, and only a rise warns.
    """
    fooled, missed = series(history, "canary/fooled"), series(history, "canary/missed")
    if most is not None and fooled and fooled[-1] > most:
        return Decision(
            "stop", "canaries", f"{fooled[-1]:.0%} of the answers without merit pass the judge (most_fooled {most:.0%})"
        )
    for values, text in ((fooled, "of the answers without merit pass the judge"), (missed, "of the right answers fail the judge")):
        if len(values) > 1 and values[-1] - values[0] >= rise:
            return Decision("warn", "canaries", f"{values[-1]:.0%} {text}; at the first check {values[0]:.0%}")
    return None
