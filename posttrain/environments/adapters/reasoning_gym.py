"""reasoning-gym (Apache-2.0): generated questions with the package's scorers, behind a check of each scorer.

Several of its scorers give full marks to any text, to the answer with junk behind it, or raise on words; some generators have no
reference answer. So a data set proves itself when the stage is prepared: gold must get 1, an empty answer, words and gold with
junk must get less, and none may raise; one that fails is refused (`scorer: exact` compares with the reference instead). At run
time one answer is read from between <answer> and </answer>, once; full marks pass, part marks are nothing, a scorer that raises
is an error and no zero. A question is made again from its data set, seed and place, so a task stays small.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import reasoning_gym
from reasoning_gym.factory import DATASETS

from posttrain.core.config import ReasoningGymEnvironment
from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.protocols import EnvironmentFactory
from posttrain.core.seeds import derive
from posttrain.core.types import Action, Grade, Message, Observation, StepResult, Task, Tool

ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
ASK = "Give only the answer between <answer> and </answer>."
TRIED = 4
TEST_SHARE = 5
JUNK = ("{gold} and also something else", "{gold}, or perhaps 17", "it could be {gold} or not {gold}")
WORDS = ("I do not know.", "banana split", "17", "yes")

Score = Callable[[str, Mapping[str, Any]], float]


class Question:
    """One episode of one turn."""

    def __init__(self, config: ReasoningGymEnvironment) -> None:
        self.config = config
        self.tools: Sequence[Tool] = ()
        self.task: Task | None = None

    async def reset(self, task: Task) -> Observation:
        self.task = task
        return Observation(task.messages)

    async def step(self, action: Action) -> StepResult:
        assert self.task is not None, "reset comes first"
        return StepResult(Observation(), terminated=True, grade=judged(self.config, self.task, action.message.content))

    async def close(self) -> None:
        """Nothing is held."""


def judged(config: ReasoningGymEnvironment, task: Task, text: str) -> Grade:
    place = task.metadata.get("reasoning_gym")
    if not isinstance(place, Mapping) or place.get("dataset") not in config.datasets:
        return Grade.error(f"task {task.id} is of none of the data sets {', '.join(config.datasets)}")
    found = ANSWER.findall(text)
    if len(found) != 1:
        return Grade(0.0, passed=False, explanation=f"{len(found)} answers between <answer> tags; expected one")
    answer = found[0].strip()
    item = entry(str(place["dataset"]), int(place["seed"]))
    if config.scorer == "exact":
        right = same(answer, str(item["answer"]))
    else:
        try:
            right = bool(answer) and float(scorer(str(place["dataset"]))(answer, item)) >= 1
        except Exception as error:  # a scorer of the package: whatever it does, there is no verdict
            return Grade.error(f"the scorer of {place['dataset']} raised {type(error).__name__}: {error}")
    return Grade(float(right), passed=right, answer=answer[:200], explanation="right" if right else "not right")


def same(answer: str, gold: str) -> bool:
    return " ".join(answer.split()) == " ".join(gold.split())


def scorer(name: str) -> Score:
    score: Score = dataset(name, 0).score_answer
    return score


@lru_cache(maxsize=512)
def dataset(name: str, seed: int) -> Any:
    return reasoning_gym.create_dataset(name, seed=seed, size=1)


def entry(name: str, seed: int) -> Mapping[str, Any]:
    item: Mapping[str, Any] = dataset(name, seed)[0]
    return item


def trial(name: str, score: Score | None = None) -> str:
    """What is wrong with a data set's scorer, in words; empty if it stood the trial."""
    score = score or scorer(name)
    for seed in range(TRIED):
        item = entry(name, seed)
        gold = item.get("answer")
        if not isinstance(gold, str) or not gold.strip():
            return "it has no reference answer"
        try:
            if float(score(gold, item)) < 1:
                return f"its reference answer {gold[:40]!r} does not get full marks"
            wrong = ["", *(word for word in WORDS if not same(word.rstrip("."), gold.rstrip(".")))]
            for text in (*wrong, *(form.format(gold=gold) for form in JUNK)):
                if float(score(text, item)) >= 1:
                    return f"{text[:60]!r} gets full marks where {gold[:40]!r} is right"
        except Exception as error:  # as above: said, and the data set refused
            return f"its scorer raised {type(error).__name__}: {error}"
    return ""


def factory(config: ReasoningGymEnvironment) -> EnvironmentFactory:
    """Raises UserError for an unknown data set, or one whose scorer does not stand its trial."""
    if not config.datasets:
        raise UserError("environment.datasets is empty.", fix="Name one, such as leg_counting.")
    for name in config.datasets:
        if name not in DATASETS:
            raise UserError(f"reasoning-gym has no data set {name!r}.", fix=did_you_mean(name, DATASETS))
        score: Score = (lambda text, item: float(same(text, item["answer"]))) if config.scorer == "exact" else scorer(name)
        if problem := trial(name, score):
            fix = "Leave it out, or set scorer: exact." if config.scorer == "own" else "Leave it out."
            raise UserError(f"the data set {name!r} of reasoning-gym cannot be trusted: {problem}.", fix=fix)
    return lambda task: Question(config)


def tasks(config: ReasoningGymEnvironment, *, split: str, count: int, seed: int) -> list[Task]:
    """The data sets in turn. The question decides its split, so a small data set has no question in both."""
    factory(config)
    found: dict[str, Task] = {}
    for number in range(50 * count + 500):
        if len(found) == count:
            return list(found.values())
        name = config.datasets[number % len(config.datasets)]
        one = derive(seed, "reasoning_gym", name, number) % 2**31
        item = entry(name, one)
        question = str(item["question"]).rstrip()
        if (derive(0, "reasoning_gym", question) % TEST_SHARE == 0) != (split == "test"):
            continue
        made = Task(
            f"{name}/{split}/{one}",
            (Message("user", f"{question}\n{ASK}"),),
            answer=str(item["answer"]),
            slices={"dataset": name},
            metadata={"reasoning_gym": {"dataset": name, "seed": one}},
        )
        found.setdefault(question, made)
    raise UserError(f"only {len(found)} different {split} questions were found; {count} were asked for.", fix="Lower the count.")
