"""Training rows against evaluation tasks: copies are found, neighbours and boilerplate are not."""

from __future__ import annotations

import pytest

from posttrain.core.types import Conversation, Example, Message, Passage, Task
from posttrain.data.decontaminate import Overlap, overlap, words

STORY = "A farmer has twelve brown hens and each of them lays two eggs on every single morning of the week"
SYSTEM = "Think it through step by step and then give the final answer as one number and nothing else at all"


def task(name: str, *turns: str) -> Task:
    return Task(name, tuple(Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(turns)))


def row(user: str, answer: str = "ok", system: str = "") -> Conversation:
    start = (Message("system", system),) if system else ()
    return Conversation((*start, Message("user", user), Message("assistant", answer)), "train.jsonl:1")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("what is   17 + 25", True),
        ("What is 17+25 ?", True),
        ("What is 17 ＋ 25?", True),  # full-width plus
        ("What is 17 - 25?", False),
        ("What is 17 × 25?", False),
        ("What is 25 + 17?", False),
        ("What is 17 + 2?", False),
        ("Please, what is 17 + 25?", False),  # a short prompt counts only as a whole
    ],
)
def test_short_prompts_count_as_a_whole(text: str, same: bool) -> None:
    found = overlap([row(text)], [task("t1", "What is 17 + 25?")])
    assert found == ([Overlap("train.jsonl:1", "what is 17 + 25", "t1")] if same else [])


def test_signs_that_look_different_are_the_same() -> None:
    assert words("6 × 7 − 2 ÷ 1") == words("6*7-2/1") == ("6", "*", "7", "-", "2", "/", "1")
    assert words("Two-digit numbers, e.g. 3.5!") == ("two", "digit", "numbers", "e", "g", "3", "5")


def test_a_long_prompt_is_found_inside_any_turn() -> None:
    eggs = task("eggs", f"{STORY}. How many eggs?")
    hidden = row("Tell me a story.", f"Once upon a time: {STORY.upper()}!")
    (found,) = overlap([row("Tell me a story.", "No."), hidden], [eggs])
    assert found.task_id == "eggs" and len(found.ngram.split()) == 13 and found.ngram.startswith("a farmer has twelve")


def test_twelve_shared_words_are_not_enough_and_thirteen_are() -> None:
    tokens = STORY.split()
    eggs = task("eggs", STORY)
    assert not overlap([row(" ".join(tokens[:12]) + " and so on")], [eggs])
    assert overlap([row(" ".join(tokens[:13]) + " and so on")], [eggs])


def test_a_passage_is_looked_at_whole() -> None:
    eggs, short = task("eggs", STORY), task("short", "What is 17 + 25?")
    rows: list[Example] = [
        Passage(STORY[30:], STORY[:30], "a:1"),
        Passage("42", "What is 17 + 25?", "a:2"),
        Passage("What is 18 + 25?", "", "a:3"),
    ]
    assert [(found.place, found.task_id) for found in overlap(rows, [eggs, short])] == [("a:1", "eggs"), ("a:2", "short")]


def test_system_prompts_are_shared_on_purpose() -> None:
    with_system = Task("t", (Message("system", SYSTEM), Message("user", "What is 17 + 25?")))
    assert not overlap([row("What is 18 + 25?", system=SYSTEM)], [with_system])


def test_boilerplate_of_many_tasks_does_not_count() -> None:
    tasks = [task(f"t{n}", f"{SYSTEM}: what is {n} + 5?") for n in range(11)]
    assert not overlap([row(f"{SYSTEM}: what is 99 + 5?")], tasks)
    # The same prompt as a whole still does, and so do words that few tasks share.
    assert overlap([row(f"{SYSTEM}: what is 3 + 5?")], tasks)[0].task_id == "t3"
    assert overlap([row(f"{SYSTEM}, for once", "3 and 5")], [task("few", f"{SYSTEM}, will you?")])


def test_a_sibling_from_the_same_template_is_not_a_copy() -> None:
    template = (
        "Mara has {} red marbles and {} blue marbles and gives {} of them to her brother, so how many does she keep in the end?"
    )
    tasks = [task("mara", template.format(12, 7, 5)), task("mara2", template.format(30, 7, 4))]
    assert not overlap([row(template.format(12, 7, 6)), row(template.format(7, 12, 5))], tasks)
    assert overlap([row("Solve: " + template.format(30, 7, 4))], tasks)[0].task_id == "mara2"


def test_a_long_run_is_a_copy_whatever_the_numbers() -> None:
    def words_from(start: int, count: int) -> str:
        return " ".join(f"word{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(start, start + count))

    passage = task("passage", f"{words_from(0, 90)} in 1848 and 1871. Which year?")
    assert not overlap([row(words_from(0, 49))], [passage])
    assert overlap([row(words_from(20, 50))], [passage])


def test_only_the_last_user_turn_asks() -> None:
    talk = task("talk", "Yes", "Fine.", "What is 17 + 25?")
    assert not overlap([row("Yes")], [talk]) and overlap([row("What is 17 + 25?")], [talk])


def test_looking_stops_at_the_limit() -> None:
    def endless():  # type: ignore[no-untyped-def]
        while True:
            yield row("What is 17 + 25?")

    assert len(overlap(endless(), [task("t1", "What is 17 + 25?")], limit=3)) == 3


def conversation(*turns: str) -> Conversation:
    return Conversation(task("row", *turns, "ok").messages, "train.jsonl:1")


def test_a_follow_up_is_the_same_only_after_the_same_turns() -> None:
    talk = task("talk", "I have a cat.", "Fine.", "Which pet do I have?")
    assert overlap([conversation("I have a cat.", "Good.", "Which pet do I have?")], [talk])
    assert not overlap([conversation("I have a dog.", "Fine.", "Which pet do I have?")], [talk])
    assert overlap([row("Which pet do I have?")], [talk]), "as the first turn of a row it counts as it stands"
    alone = task("alone", "Which pet do I have?")
    (found,) = overlap([conversation("I have a dog.", "Fine.", "Which pet do I have?")], [talk, alone])
    assert found.task_id == "alone"


def test_a_short_follow_up_of_thirteen_words_is_anybodys_and_a_long_one_is_not() -> None:
    short = "How many words does the list have now, please? Reply with the answer only."  # 14 words
    talk = task("talk", "A list with tea.", "Fine.", short)
    assert not overlap([conversation("A list with milk.", "Fine.", short)], [talk])
    long = f"{STORY}, and {STORY.replace('farmer', 'neighbor')}: who has more?"
    assert overlap([conversation("Hello.", "Hi.", f"Now: {long}")], [task("talk", "Yes", "Fine.", long)])
