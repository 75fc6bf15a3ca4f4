"""Graders of your own: a function of the task and the answer, returning a number, a bool, or a whole Grade.

In a recipe:          graders: [{kind: math}, {kind: function, path: ./my_grader.py:concise, weight: 0.2}]
From the terminal:    posttrain graders test function --set path=examples/my_grader.py:names_the_unit
In Python:            pt.grpo(model, tasks.train, graders=[pt.graders.math(), concise], steps=25)

The file runs in a process of its own that is killed when it hangs; a crash or a wrong type is recorded as an error and is
never a score of 0.
"""

from __future__ import annotations

from posttrain.core.types import Grade, Task


def concise(task: Task, answer: str) -> float:
    """1 for up to 30 words, 0 beyond."""
    return 1.0 if len(answer.split()) <= 30 else 0.0


def names_the_unit(task: Task, answer: str) -> Grade:
    """Passes if the unit that the task asks for stands in the answer; says so. A task without a unit has no score."""
    unit = task.metadata.get("unit")
    if not unit:
        return Grade.unscored("the task names no unit")
    found = unit in answer.split()
    return Grade(float(found), passed=found, answer=answer, explanation=f"{unit} is {'there' if found else 'missing'}")
