"""The built-in task sets: apart by construction, right by an independent calculation, graded by the graders they are for."""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from posttrain.core.config import FormatGrader, GraderConfig, LookupGrader, MathGrader
from posttrain.core.errors import UserError
from posttrain.core.types import Task
from posttrain.data.builtin import SETS, demonstrations, tasks
from posttrain.data.builtin.problems import split_of
from posttrain.graders import build, selftest
from posttrain.graders.build import wait_for

GRADER: dict[str, GraderConfig] = {"math": MathGrader(), "lookup": LookupGrader()}
EVERYTHING = {
    "arithmetic": {"operations": ["add", "subtract", "multiply", "divide"], "digits": [1, 2, 3, 4], "terms": [2, 3, 4, 5]},
    "word_problems": {},
    "lookup": {"rows": [2, 3, 4, 5, 6]},
    "needle": {"words": [25, 50], "needles": [1, 2, 4, 8]},
    "strings": {"lengths": [3, 4, 5, 6]},
}
SIGNS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def value(expression: str) -> Fraction:
    """An arithmetic expression worked out exactly, by Python's own grammar."""

    def of(node: ast.AST) -> Fraction:
        if isinstance(node, ast.BinOp):
            return SIGNS[type(node.op)](of(node.left), of(node.right))
        assert isinstance(node, ast.Constant), expression
        return Fraction(node.value)

    return of(ast.parse(expression, mode="eval").body)


@pytest.mark.parametrize("name", EVERYTHING)
def test_train_and_test_never_meet(name: str) -> None:
    """Thousands of problems with different seeds and options: no id, no question on both sides."""
    train = [*tasks(name, count=4000, seed=1, options=EVERYTHING[name]), *tasks(name, count=1000, seed=2)]
    test = [*tasks(name, split="test", count=1000, seed=3, options=EVERYTHING[name]), *tasks(name, split="test", count=300, seed=1)]
    digests = [{task.id.rpartition("/")[2] for task in side} for side in (train, test)]
    questions = [{task.messages[0].content for task in side} for side in (train, test)]
    assert not digests[0] & digests[1]
    assert not questions[0] & questions[1]


def test_the_order_of_summands_does_not_cross_the_split() -> None:
    sums = {}
    for split in ("train", "test"):
        drawn = tasks("arithmetic", split=split, count=500, seed=4, options={"operations": ["add", "multiply"], "digits": 2})
        sums[split] = {(task.slices["operation"], *sorted(re.findall(r"\d+", task.messages[0].content))) for task in drawn}
        assert len(sums[split]) == 500
    assert not sums["train"] & sums["test"]


def test_split_is_one_in_five() -> None:
    share = sum(split_of("arithmetic", f"add {n} {n + 1}") == "test" for n in range(10_000)) / 10_000
    assert 0.18 < share < 0.22


@pytest.mark.parametrize("name", EVERYTHING)
def test_same_seed_same_tasks_and_ids_are_unique(name: str) -> None:
    first, again, other = (tasks(name, count=200, seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert first != other
    assert len({task.id for task in first}) == 200
    assert all(task.id.startswith(f"{name}/train/") and task.answer and len(task.messages) == 1 for task in first)
    assert tasks(name, count=50, seed=5) == first[:50]


def test_ids_do_not_depend_on_seed_or_options() -> None:
    wide = {task.messages[0].content: task.id for task in tasks("arithmetic", count=60, seed=1, options={"digits": 1})}
    narrow = {
        task.messages[0].content: task.id
        for task in tasks("arithmetic", count=30, seed=9, options={"operations": "add", "digits": 1})
    }
    common = wide.keys() & narrow.keys()
    assert common
    assert all(wide[question] == narrow[question] for question in common)


@pytest.mark.parametrize(
    "options", [{}, EVERYTHING["arithmetic"], {"operations": "divide", "terms": [3, 4]}, {"operations": "subtract", "terms": 5}]
)
def test_arithmetic_answers_are_right_whole_and_not_negative(options: dict[str, object]) -> None:
    for task in tasks("arithmetic", count=400, seed=7, options=options):
        expression = task.messages[0].content.removeprefix("What is ").removesuffix("?")
        result = value(expression)
        assert str(result) == task.answer
        assert result >= 0
        assert set(task.slices) == {"operation", "digits", "terms"}
        assert len(re.findall(r"\d+", expression)) == int(task.slices["terms"])


def test_arithmetic_digits_are_what_the_slice_says() -> None:
    for task in tasks("arithmetic", count=300, seed=8, options={"operations": ["add", "subtract", "multiply"], "digits": [2, 3]}):
        lengths = {len(number) for number in re.findall(r"\d+", task.messages[0].content)}
        assert lengths == {int(task.slices["digits"])}


@pytest.mark.parametrize("name", ["arithmetic", "word_problems"])
def test_every_step_of_every_derivation_is_right(name: str) -> None:
    options = {**EVERYTHING[name]}
    for conversation in demonstrations(name, count=1500, seed=11, options=options):
        text = conversation.messages[1].content
        thinking, answer = re.fullmatch(r"<think>(.*)</think><answer>(\d+)</answer>", text).groups()  # type: ignore[union-attr]
        steps = re.findall(r"([\d+*/-]+)=(\d+)\.", thinking)
        assert steps
        assert thinking.count("=") == len(steps)
        assert all(value(expression) == int(result) for expression, result in steps), text
        assert leads_to(answer, steps), text


def leads_to(answer: str, steps: list[tuple[str, str]]) -> bool:
    """The last result is the answer, or the last digits of the columns make it, or the division is proved by its product."""
    if steps[-1][1] == answer:
        return True
    columns = [result[-1] for _, result in steps[:-1]]
    by_columns = (steps[-1][1] + "".join(reversed(columns))).lstrip("0") or "0"
    return answer in (by_columns, steps[-1][0].partition("*")[2])


def test_derivations_by_hand() -> None:
    from posttrain.data.builtin.arithmetic import steps

    assert steps("+", [17, 25]) == "Ones: 7+5=12. Tens: 1+2+1=4."
    assert steps("-", [42, 17]) == "Ones: 12-7=5. Tens: 4-1-1=2."
    assert steps("-", [302, 114]) == "Ones: 12-4=8. Tens: 10-1-1=8. Hundreds: 3-1-1=1."
    assert steps("*", [23, 45]) == "23*40=920. 23*5=115. 920+115=1035."
    assert steps("/", [144, 12]) == "12*12=144."
    assert steps("+", [1, 2, 3]) == "1+2=3. 3+3=6."


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("style", ["think_answer", "think_equation", "answer_only", "boxed"])
def test_every_demonstration_passes_its_grader(name: str, style: str) -> None:
    options = EVERYTHING[name]
    if (style == "boxed" and SETS[name].grader == "lookup") or (style == "think_equation" and name != "arithmetic"):
        with pytest.raises(UserError, match="option style of builtin"):
            demonstrations(name, options={"style": style})
        return
    shown = demonstrations(name, count=300, seed=12, options={**options, "style": style})
    asked = tasks(name, count=300, seed=12, options=options)
    configs = [GRADER[SETS[name].grader], *([FormatGrader()] if style.startswith("think") else [])]
    if style == "boxed":
        configs.append(FormatGrader(layout="boxed"))
    grader = build(configs, base=Path())
    for task, conversation in zip(asked, shown, strict=True):
        assert conversation.messages[0] == task.messages[0]
        grade = wait_for_grade(grader, task, conversation.messages[1].content)
        assert (grade.passed, grade.score) == (True, float(len(configs))), (task, conversation, grade)
        assert wait_for_grade(grader, task, "<think>x</think><answer>nothing</answer>").passed is False
    grader.close()


def wait_for_grade(grader, task: Task, text: str):  # type: ignore[no-untyped-def]
    return wait_for(lambda: grader.text(task, text))


@pytest.mark.parametrize("name", EVERYTHING)
def test_graders_prove_themselves_on_the_built_in_sets(name: str) -> None:
    for configs in ([GRADER[SETS[name].grader]], [GRADER[SETS[name].grader], FormatGrader()]):
        result = selftest(configs, tasks(name, split="test", count=60, seed=13), Path())
        assert result.ok, result.problems


@pytest.mark.parametrize("name", EVERYTHING)
def test_thinking_is_short(name: str) -> None:
    """Counted as small tokenizers count digits, signs and tags: an upper bound that a toy model and a 135M model can learn."""
    for conversation in demonstrations(name, count=500, seed=14):
        thinking = conversation.messages[1].content.partition("</think>")[0].removeprefix("<think>")
        assert len(re.findall(r"[A-Za-z]+|\d|[^\sA-Za-z\d]", thinking)) < 60, thinking


def test_word_problems_come_from_all_templates_and_steps() -> None:
    drawn = tasks("word_problems", count=800, seed=15)
    seen = Counter(task.slices["template"] for task in drawn)
    assert len(seen) >= 8
    assert min(seen.values()) > 30
    assert {task.slices["steps"] for task in drawn} == {"1", "2"}
    assert {task.slices["steps"] for task in tasks("word_problems", count=50, options={"steps": 1})} == {"1"}
    only = tasks("word_problems", count=50, options={"templates": ["change", "bags"]})
    assert {task.slices["template"] for task in only} == {"change", "bags"}


def test_word_problem_by_hand() -> None:
    for task in tasks("word_problems", count=200, seed=16, options={"templates": "change"}):
        count, price, paid = map(int, re.findall(r"\d+", task.messages[0].content))
        assert task.answer == str(paid - count * price)
        assert int(task.answer) > 0


def test_lookup_answers_are_in_the_table() -> None:
    for task in tasks("lookup", count=500, seed=17):
        table, _, question = task.messages[0].content.partition("\n\n")
        header, *rows = [line.split(" | ") for line in table.splitlines()]
        assert len(rows) == int(task.slices["rows"])
        numbers = {name: dict(zip(header[1:], cells, strict=True)) for name, *cells in rows}
        names = [name for name in numbers if re.search(rf"\b{name}\b", question)]
        column = next(c for c in header[1:] if re.search(rf"\b{c}\b", question))
        if task.slices["question"] == "cell":
            assert task.answer == numbers[names[0]][column]
            continue
        if task.slices["question"] != "compare":
            names = list(numbers)
        pick = max if "larg" in question else min
        assert task.answer == pick(names, key=lambda name: int(numbers[name][column]))


def test_string_answers_are_right() -> None:
    for task in tasks("strings", count=800, seed=18):
        question, operation = task.messages[0].content, task.slices["operation"]
        quoted = re.findall(r"'(\w+)'", question)
        listed = question.partition(": ")[2].partition(".")[0].split(", ")
        expected = {
            "reverse": "".join(quoted)[::-1],
            "uppercase": "".join(quoted).upper(),
            "count_letter": str(quoted[-1].count(quoted[0])) if quoted else "",
            "first_letters": "".join(word[:1] for word in listed),
            "last_letters": "".join(word[-1:] for word in listed),
            "sort_words": ", ".join(sorted(listed)),
        }[operation]
        assert task.answer == expected, question
        assert (task.metadata.get("case_sensitive") is True) == (operation == "uppercase")


def test_instruction_is_appended_and_style_lays_out() -> None:
    plain, asked = (tasks("arithmetic", count=1, options=options)[0] for options in ({}, {"instruction": "think_answer"}))
    assert asked.messages[0].content.startswith(plain.messages[0].content + "\n")
    assert "<think>" in asked.messages[0].content
    assert (asked.id, asked.answer) == (plain.id, plain.answer)
    shown = {
        style: demonstrations("arithmetic", count=1, options={"style": style})[0]
        for style in ("think_answer", "answer_only", "boxed")
    }
    assert shown["answer_only"].messages[1].content == plain.answer
    assert shown["boxed"].messages[1].content.endswith(f"\\boxed{{{plain.answer}}}")
    assert shown["think_answer"].messages[1].content.endswith(f"</think><answer>{plain.answer}</answer>")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("arithmetics", {}, "Did you mean arithmetic?"),
        ("arithmetic", {"split": "trian"}, "Did you mean train?"),
        ("arithmetic", {"options": {"digit": 2}}, "Did you mean digits?"),
        ("arithmetic", {"options": {"operations": ["ad"]}}, "Did you mean add?"),
        ("arithmetic", {"options": {"digits": 9}}, "Known: 1, 2, 3, 4"),
        ("arithmetic", {"options": {"digits": []}}, "is empty"),
        ("arithmetic", {"options": {"digits": True}}, "has the value True"),
        ("arithmetic", {"options": {"digits": {"a": 1}}}, "has the value"),
        ("arithmetic", {"options": {"instruction": "boxd"}}, "Did you mean boxed?"),
        ("arithmetic", {"options": {"style": "boxed"}}, "style is for demonstrations"),
        ("word_problems", {"options": {"templates": "bags", "steps": 2}}, "no template"),
        ("strings", {"options": {"length": 3}}, "Did you mean lengths?"),
    ],
)
def test_mistakes_are_told_with_the_nearest_name(name: str, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        tasks(name, **arguments)  # type: ignore[arg-type]
    assert said in str(error.value)


def test_a_space_too_small_says_how_large_it_is() -> None:
    """One-digit sums of two: 45 without order, of which each belongs to one side."""
    options = {"operations": "add", "digits": 1}
    sizes = {}
    for split in ("train", "test"):
        with pytest.raises(UserError, match="were asked for") as error:
            tasks("arithmetic", split=split, count=46, options=options)
        sizes[split] = int(re.search(r"about (\d+) different", str(error.value))[1])  # type: ignore[index]
        assert len(tasks("arithmetic", split=split, count=sizes[split], options=options)) == sizes[split]
    assert sum(sizes.values()) == 45
