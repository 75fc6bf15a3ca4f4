"""BFCL multi-turn (Berkeley Function-Calling Leaderboard v4, Apache-2.0): a scripted user, simulated services, states compared.

The user says a sentence, the model calls functions until it answers in words, then the user says the next. After each turn of the
user the reference calls are done on services of their own, and the package's checkers compare: the state of every service, and
that every result the reference got was also got by the model. Its runner evaluates the model's text as Python; here calls are
read from the model's tool calls, or from text as `[name(argument=value)]` by `ast.literal_eval`, and a method is only called if
the task offers it. Categories base, miss_param and long_context; in miss_func tools appear during an episode, which ours cannot.
Needs the package alone (`pip install --no-deps bfcl-eval`): what else it asks for is for its model clients. The tasks are a
benchmark of 200 rows a category: those of the test split (one in five) are for measuring.
"""

from __future__ import annotations

import ast
import copy
import importlib
import json
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from posttrain.core.config import BfclEnvironment
from posttrain.core.errors import UserError
from posttrain.core.protocols import EnvironmentFactory
from posttrain.core.seeds import derive
from posttrain.core.types import Action, Grade, Message, Observation, StepResult, Task, Tool, ToolCall
from posttrain.environments.tools import CALL_MARK, MOST_CALLS, cut, misfit, result, unreadable

CATEGORIES = ("base", "miss_param", "long_context")
TEST_SHARE = 5
TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}
"""The names of types in its function documents that JSON schema does not have."""

Call = tuple[str, tuple[Any, ...], dict[str, Any]]
"""Name, positional and named arguments."""


class Conversation:
    """One episode: the user's turns, the model's services and the reference's."""

    def __init__(self) -> None:
        self.tools: Sequence[Tool] = ()
        self.turns: list[list[Message]] = []
        self.reference: list[list[str]] = []
        self.services: dict[str, Any] = {}
        self.truth: dict[str, Any] = {}
        self.results: list[str] = []
        self.turn = 0
        self.wrong = ""

    async def reset(self, task: Task) -> Observation:
        place = task.metadata.get("bfcl", {})
        row, self.reference = rows(str(place.get("category"))).get(str(place.get("id")), ({}, []))
        if not row:
            raise UserError(f"task {task.id} is no task of BFCL.", fix="Write tasks with `posttrain environments tasks bfcl`.")
        self.turns = [[Message("user", turn["content"]) for turn in turns if turn["role"] == "user"] for turns in row["question"]]
        self.services, self.truth = opened(row), opened(row)
        self.tools = offered(row)
        return Observation(task.messages)

    async def step(self, action: Action) -> StepResult:
        message = action.message
        calls: list[Call] = [(call.name, (), dict(call.arguments)) for call in message.tool_calls] or in_text(message.content)
        if not calls and CALL_MARK in message.content:
            return StepResult(Observation((result(unreadable(self.tools)),)), grade=self.grade())
        if calls:
            told = [self.answered(*call) for call in calls[:MOST_CALLS]]
            answers = [result(cut(text), ToolCall(call[0], {})) for text, call in zip(told, calls, strict=False)]
            if len(calls) > MOST_CALLS:
                answers.append(result(f"error: only the first {MOST_CALLS} calls of a turn are answered"))
            return StepResult(Observation(tuple(answers)), grade=self.grade())
        self.compare()
        self.turn += 1
        if self.turn == len(self.turns) or self.wrong:
            return StepResult(Observation(), terminated=True, grade=self.grade())
        return StepResult(Observation(tuple(self.turns[self.turn])), grade=self.grade())

    async def close(self) -> None:
        """Nothing is held but memory."""

    def answered(self, name: str, positional: tuple[Any, ...], named: dict[str, Any]) -> str:
        tool = next((tool for tool in self.tools if tool.name == name), None)
        if tool is None:
            return f"error: there is no tool {name!r}"
        if not positional and (problem := misfit(tool, named)):
            return f"error: {problem}"
        told = call(self.services, name, positional, named)
        self.results.append(told)
        return told

    def compare(self) -> None:
        """Do the reference's calls of this turn, and remember what differs then."""
        from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import response_checker, state_checker

        expected = [call(self.truth, *one) for text in self.reference[self.turn] for one in in_text(f"[{text}]")]
        if not self.reference[self.turn]:
            return
        states = state_checker(self.services, self.truth)
        answers = response_checker(self.results, expected, self.turn)
        if not states["valid"] or not answers["valid"]:
            what = "the services are in another state" if not states["valid"] else "a result of the reference is missing"
            self.wrong = f"turn {self.turn + 1} of the user: {what}"

    def grade(self) -> Grade:
        done = self.turn == len(self.turns) and not self.wrong
        why = "as the reference, after every turn" if done else self.wrong or f"{self.turn} of {len(self.turns)} turns were played"
        return Grade(float(done), passed=done, explanation=why, parts={"turns": (self.turn - bool(self.wrong)) / len(self.turns)})


def in_text(text: str) -> list[Call]:
    """The calls in `[f(a=1), g('x')]`, literals alone as arguments; none if the text is anything else. Nothing is evaluated."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.List):
            return []
        return [read_call(node) for node in tree.elts]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return []


def read_call(node: ast.expr) -> Call:
    """Raises ValueError for what is no plain call of a name with literals."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError("not a call of a name")
    positional = tuple(ast.literal_eval(argument) for argument in node.args)
    return node.func.id, positional, {str(word.arg): ast.literal_eval(word.value) for word in node.keywords if word.arg}


def call(services: Mapping[str, Any], name: str, positional: Sequence[Any], named: Mapping[str, Any]) -> str:
    """The result of a service's method as text. What a service raises is told, as its own runner does."""
    for service in services.values():
        method = None if name.startswith("_") else getattr(service, name, None)
        if callable(method):
            try:
                found = method(*positional, **named)
            except Exception as error:  # a simulated service given whatever a model writes: the model reads what went wrong
                return f"Error during execution: {error}"
            return found if isinstance(found, str) else json.dumps(found, default=str) if isinstance(found, dict) else str(found)
    return f"Error during execution: there is no function {name}"


def opened(row: Mapping[str, Any]) -> dict[str, Any]:
    """Fresh services in the state that the task begins with."""
    from bfcl_eval.constants.executable_backend_config import CLASS_FILE_PATH_MAPPING, STATELESS_CLASSES

    long = "long_context" in row["id"]
    found = {}
    for name in row["involved_classes"]:
        found[name] = getattr(importlib.import_module(CLASS_FILE_PATH_MAPPING[name]), name)()
        if name not in STATELESS_CLASSES:
            found[name]._load_scenario(copy.deepcopy(row["initial_config"].get(name, {})), long_context=long)
    return found


def offered(row: Mapping[str, Any]) -> tuple[Tool, ...]:
    left_out = set(row.get("excluded_function", ()))
    documents = [document for name in row["involved_classes"] for document in documented(name)]
    return tuple(
        Tool(one["name"], one["description"].split("Tool description: ")[-1], schema(one["parameters"]))
        for one in documents
        if one["name"] not in left_out
    )


def schema(described: Mapping[str, Any]) -> dict[str, Any]:
    """Its description of parameters as JSON schema."""
    found = {name: value for name, value in described.items() if name in ("description", "enum", "default", "required")}
    kind = described.get("type")
    if (named := TYPES.get(str(kind), kind)) is not None:
        found["type"] = named
    if "properties" in described:
        found["properties"] = {name: schema(value) for name, value in described["properties"].items()}
    if "items" in described:
        found["items"] = schema(described["items"])
    return found


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def data() -> Path:
    import bfcl_eval

    return Path(str(bfcl_eval.__path__[0])) / "data"


@lru_cache
def documented(name: str) -> list[Any]:
    from bfcl_eval.constants.executable_backend_config import MULTI_TURN_FUNC_DOC_FILE_MAPPING

    return lines(data() / "multi_turn_func_doc" / MULTI_TURN_FUNC_DOC_FILE_MAPPING[name])


@lru_cache
def rows(category: str) -> dict[str, tuple[dict[str, Any], list[list[str]]]]:
    """Its tasks by id, each with the reference calls of every turn; empty for a category that we do not play."""
    if category not in CATEGORIES:
        return {}
    name = f"BFCL_v4_multi_turn_{category}.json"
    answers = {row["id"]: row["ground_truth"] for row in lines(data() / "possible_answer" / name)}
    return {row["id"]: (row, answers[row["id"]]) for row in lines(data() / name)}


def factory(config: BfclEnvironment) -> EnvironmentFactory:
    return lambda task: Conversation()


def tasks(config: BfclEnvironment, *, split: str, count: int, seed: int) -> list[Task]:
    """Tasks of all three categories, shuffled. A test task's siblings in the other categories are test tasks too."""
    every = [(category, number, row) for category in CATEGORIES for number, (row, _) in enumerate(rows(category).values())]
    fitting = [one for one in every if (one[1] % TEST_SHARE == 0) == (split == "test")]
    if count > len(fitting):
        raise UserError(
            f"BFCL has {len(fitting)} {split} tasks; {count} were asked for.", fix=f"Set count to {len(fitting)} or less."
        )
    random.Random(derive(seed, "bfcl", split)).shuffle(fitting)
    return [
        Task(
            row["id"],
            tuple(Message(turn["role"], turn["content"]) for turn in row["question"][0]),
            slices={"category": category},
            metadata={"bfcl": {"category": category, "id": row["id"]}},
        )
        for category, _, row in fitting[:count]
    ]
