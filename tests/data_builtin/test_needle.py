"""Needles: where they are said to be, as long as asked for, one right answer among several codes, always the same."""

from __future__ import annotations

import re

import pytest

from posttrain.core.config import LookupGrader
from posttrain.data.builtin import tasks
from posttrain.graders import grade_text


def parts(content: str) -> tuple[list[str], str]:
    text, _, question = content.partition("\n\n")
    return re.findall(r"[^.]+\.", text), question


def test_the_same_options_give_the_same_tasks_in_every_length() -> None:
    for words in (25, 1000):
        options = {"words": words, "needles": [1, 4]}
        assert tasks("needle", count=20, seed=3, options=options) == tasks("needle", count=20, seed=3, options=options)
    assert tasks("needle", count=5, seed=3) != tasks("needle", count=5, seed=4)


@pytest.mark.parametrize("words", [50, 400, 4000])
def test_the_text_is_as_long_as_asked_for(words: int) -> None:
    for task in tasks("needle", count=8, options={"words": words, "needles": [1, 4]}):
        text = task.messages[0].content.partition("\n\n")[0]
        assert task.slices["words"] == str(words)
        assert words <= len(text.split()) < words + 25


def test_the_needle_is_at_its_depth() -> None:
    for task in tasks("needle", count=60, options={"words": 400}):
        sentences, question = parts(task.messages[0].content)
        name = re.fullmatch(r"What is the code of the (.+)\?", question)[1]  # type: ignore[index]
        place = [i for i, sentence in enumerate(sentences) if name in sentence]
        assert len(place) == 1 and task.answer in sentences[place[0]]
        assert abs(place[0] / (len(sentences) - 1) - int(task.slices["depth"]) / 100) < 0.05


def test_of_several_needles_one_is_asked_for_and_its_code_is_nobody_elses() -> None:
    for task in tasks("needle", count=40, options={"needles": 8, "words": 200}):
        sentences, question = parts(task.messages[0].content)
        codes = dict(re.fullmatch(r"The code of the (.+) is (\d{4})\.", s.strip()).groups() for s in sentences if "code" in s)  # type: ignore[union-attr]
        assert len(codes) == 8 == len(set(codes.values()))
        assert codes[question.removeprefix("What is the code of the ").removesuffix("?")] == task.answer


def test_nothing_else_in_the_hay_is_a_number() -> None:
    for task in tasks("needle", count=10, options={"words": 1000}):
        assert re.findall(r"\d+", task.messages[0].content) == [task.answer]


def test_the_number_or_the_whole_sentence_is_an_answer_and_another_code_is_not() -> None:
    (task,) = tasks("needle", count=1, options={"words": 25})
    sentence = next(s.strip() for s in parts(task.messages[0].content)[0] if "code" in s)
    aliases = task.metadata["aliases"]
    for text, right in ((task.answer, True), (f"{task.answer}.", True), (sentence, True), ("1234", False), (sentence[:-2], False)):
        assert grade_text(LookupGrader(), task, text).passed is right, (text, aliases)
