"""Problems as tasks and demonstrations: the layouts an answer may have, and the sentence that asks for each."""

from __future__ import annotations

from collections.abc import Callable

from posttrain.core.tools import CALCULATOR
from posttrain.core.types import Conversation, Message, Task, ToolCall
from posttrain.data.builtin.problems import Problem, digest

INSTRUCTIONS: dict[str, str] = {
    "none": "",
    "think_answer": "Think between <think> and </think>, then give only the answer between <answer> and </answer>.",
    "answer_only": "Reply with the answer only.",
    "boxed": "Work step by step and put the answer in \\boxed{}.",
}

STYLES: dict[str, Callable[[Problem], str]] = {
    "think_answer": lambda problem: f"<think>{problem.steps}</think><answer>{problem.answer}</answer>",
    "think_equation": lambda problem: f"<think>{problem.equation}</think><answer>{problem.answer}</answer>",
    "answer_only": lambda problem: problem.answer,
    "boxed": lambda problem: f"{problem.steps} \\boxed{{{problem.answer}}}",
    "reply": lambda problem: problem.reply,
}


def prompt(problem: Problem, instruction: str) -> tuple[Message, ...]:
    asked = f"{problem.question}\n{INSTRUCTIONS[instruction]}" if INSTRUCTIONS[instruction] else problem.question
    return (*(Message(role, text) for role, text in problem.history), Message("user", asked))


def task(name: str, split: str, problem: Problem, instruction: str) -> Task:
    return Task(
        id=f"{name}/{split}/{digest(name, problem.key)}",
        messages=prompt(problem, instruction),
        answer=problem.answer,
        slices=dict(problem.slices),
        metadata={**problem.metadata, "gold": problem.reply} if problem.reply else dict(problem.metadata),
    )


def demonstration(name: str, split: str, problem: Problem, instruction: str, style: str) -> Conversation:
    asked, origin = prompt(problem, instruction), f"builtin:{name}/{split}/{digest(name, problem.key)}"
    if style == "calculator":
        return Conversation((*asked, *calculated(problem)), origin, dict(problem.slices), tools=(CALCULATOR.schema,))
    return Conversation((*asked, Message("assistant", STYLES[style](problem))), origin, dict(problem.slices))


def calculated(problem: Problem) -> tuple[Message, ...]:
    """A call of the calculator, its result as the environment of the same name writes it, and the answer read off it."""
    call = ToolCall(CALCULATOR.name, {"expression": problem.expression})
    return (
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", problem.answer, name=CALCULATOR.name),
        Message("assistant", problem.answer),
    )
