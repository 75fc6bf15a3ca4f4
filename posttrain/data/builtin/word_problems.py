"""Short stories with one or two steps of arithmetic.

Options: templates (by name), steps (1, 2). A template is data: the story, the ranges its numbers are drawn from, numbers that
follow from others (so that a share divides evenly and nobody gives more than they have), and the steps to the answer, where
`r` is the result before. Names and things vary; only template and numbers make a problem.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from posttrain.core.errors import UserError
from posttrain.data.builtin.arithmetic import apply
from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet

NAMES = (
    "Ana",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Grace",
    "Hugo",
    "Iris",
    "Jonas",
    "Kira",
    "Leo",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
)
THINGS = ("apples", "books", "cards", "coins", "eggs", "flowers", "marbles", "oranges", "pencils", "shells", "stamps", "stickers")

Rule = tuple[str, str, str]
"""Left, sign, right: names of numbers, or r for the result before."""


@dataclass(frozen=True)
class Template:
    """`ranges` gives the first and last value of each number drawn; `follows` numbers computed from those drawn."""

    story: str
    ranges: dict[str, tuple[int, int]]
    steps: tuple[Rule, ...]
    follows: dict[str, Rule] = field(default_factory=dict)


TEMPLATES: dict[str, Template] = {
    "buy_more": Template(
        "{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?",
        {"a": (11, 99), "b": (2, 99)},
        (("a", "+", "b"),),
    ),
    "give_away": Template(
        "{name} has {a} {things} and gives {b} of them to {other}. How many {things} does {name} have left?",
        {"b": (2, 60), "left": (3, 60)},
        (("a", "-", "b"),),
        {"a": ("b", "+", "left")},
    ),
    "bags": Template(
        "{name} fills {a} bags with {b} {things} each. How many {things} are in the bags?",
        {"a": (2, 19), "b": (2, 29)},
        (("a", "*", "b"),),
    ),
    "share": Template(
        "{name} shares {a} {things} equally among {b} friends. How many {things} does each friend get?",
        {"b": (2, 12), "each": (2, 40)},
        (("a", "/", "b"),),
        {"a": ("b", "*", "each")},
    ),
    "earn_and_spend": Template(
        "{name} has {a} dollars, earns {b} dollars and then spends {c} dollars. How many dollars does {name} have now?",
        {"a": (20, 70), "b": (5, 40), "c": (2, 24)},
        (("a", "+", "b"), ("r", "-", "c")),
    ),
    "boxes_and_loose": Template(
        "{name} has {a} boxes with {b} {things} each and {c} loose {things}. How many {things} does {name} have?",
        {"a": (2, 12), "b": (2, 20), "c": (2, 30)},
        (("a", "*", "b"), ("r", "+", "c")),
    ),
    "boxes_and_lost": Template(
        "{name} has {a} boxes with {b} {things} each and loses {c} of the {things}. How many {things} are left?",
        {"a": (3, 12), "b": (4, 20), "c": (2, 11)},
        (("a", "*", "b"), ("r", "-", "c")),
    ),
    "two_people": Template(
        "{name} has {a} {things}. {other} has {b} {things} more than {name}. How many {things} do they have together?",
        {"a": (3, 60), "b": (2, 40)},
        (("a", "+", "b"), ("r", "+", "a")),
    ),
    "pool_and_share": Template(
        "{name} has {a} {things} and {other} has {b}. They put them together and share them equally among {c} children. "
        "How many {things} does each child get?",
        {"b": (2, 11), "c": (3, 9), "each": (5, 20)},
        (("a", "+", "b"), ("r", "/", "c")),
        {"total": ("c", "*", "each"), "a": ("total", "-", "b")},
    ),
    "change": Template(
        "{name} buys {a} {things} at {b} dollars each and pays with {c} dollars. How many dollars does {name} get back?",
        {"a": (2, 9), "b": (2, 12), "back": (1, 40)},
        (("a", "*", "b"), ("c", "-", "r")),
        {"cost": ("a", "*", "b"), "c": ("cost", "+", "back")},
    ),
}

OPTIONS = {"templates": Option(tuple(TEMPLATES), tuple(TEMPLATES)), "steps": Option((1, 2), (1, 2))}


def problem(stream: random.Random, picked: Picked) -> Problem:
    fitting = [name for name in picked["templates"] if len(TEMPLATES[name].steps) in picked["steps"]]
    if not fitting:
        raise UserError(
            f"builtin:word_problems has no template among {', '.join(picked['templates'])} with {picked['steps'][0]} steps.",
            fix="Leave out the option steps.",
        )
    kind = stream.choice(fitting)
    template = TEMPLATES[kind]
    numbers = {name: stream.randint(*span) for name, span in template.ranges.items()}
    for name, rule in template.follows.items():
        numbers[name] = result(rule, numbers)
    name, other = stream.sample(NAMES, 2)
    things = stream.choice(THINGS)
    lines = []
    for rule in template.steps:
        left, right = numbers[rule[0]], numbers[rule[2]]
        numbers["r"] = result(rule, numbers)
        lines.append(f"{left}{rule[1]}{right}={numbers['r']}.")
    shown = {key: value for key, value in numbers.items() if f"{{{key}}}" in template.story}
    return Problem(
        key=f"{kind} {' '.join(f'{key}={shown[key]}' for key in sorted(shown))}",
        question=template.story.format(name=name, other=other, things=things, **shown),
        answer=str(numbers["r"]),
        steps=" ".join(lines),
        slices={"template": kind, "steps": str(len(template.steps))},
    )


def result(rule: Rule, numbers: dict[str, int]) -> int:
    left, sign, right = rule
    return apply(sign, numbers[left], numbers[right])


SET = TaskSet("word_problems", "math", OPTIONS, problem)
