"""Near-copies are found, distinct rows are kept, memory ends where it says, and twice is the same."""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest

from posttrain.core.config import SftConfig
from posttrain.core.config.data import DataSource
from posttrain.core.types import Conversation, Example, Message, Passage
from posttrain.data.near_duplicates import NearUnique, near_unique, shingles, sketched
from posttrain.stages.sft import Counts, write

TEXT = (
    "The library in the old mill opened in the spring of the year after the flood. It lends books, maps and records to everybody "
    "who lives in the valley, and on Fridays a reading for children fills the ground floor. Those who cannot come are visited by a "
    "van that stops in nine villages between the river and the pass, whatever the weather does."
)


def talk(question: str, answer: str, system: str = "") -> Conversation:
    start = (Message("system", system),) if system else ()
    return Conversation((*start, Message("user", question), Message("assistant", answer)))


def kept(rows: list[Example], threshold: float = 0.8) -> tuple[list[Example], int]:
    sieve = near_unique(rows, threshold)
    return list(sieve), sieve.dropped


COPIES = {
    "one word": TEXT.replace("nine", "ten"),
    "case and punctuation": TEXT.upper().replace(",", ";").replace(".", " !"),
    "spaces": TEXT.replace(" ", "  \n"),
    "a greeting before it": f"Hello there! {TEXT}",
    "the last words cut": TEXT.rsplit(" ", 3)[0],
}


@pytest.mark.parametrize("how", COPIES)
def test_near_copies_are_dropped_and_the_first_stays(how: str) -> None:
    first, other = Passage(TEXT), Passage(COPIES[how])
    assert kept([first, other]) == ([first], 1) and kept([other, first]) == ([other], 1)


def test_a_copy_in_a_conversation_is_one_and_a_system_prompt_is_not() -> None:
    rows = [talk("Tell me about it.", TEXT), talk("Tell me about it.", COPIES["one word"], system="You are kind.")]
    assert kept(rows)[1] == 1
    different = [
        talk("What is red?", "A rose, a cherry and a fire engine.", TEXT),
        talk("Who sings?", "My aunt does, in the bath.", TEXT),
    ]
    assert kept(different) == (different, 0)


def test_distinct_texts_are_kept() -> None:
    stream = random.Random(0)
    words = [f"word{number}" for number in range(400)]
    rows: list[Example] = [Passage(" ".join(stream.choices(words, k=40))) for _ in range(300)]
    assert kept(rows, 0.5) == (rows, 0)


def test_half_of_a_text_is_another_at_a_high_threshold_and_a_copy_at_a_low_one() -> None:
    words = TEXT.split()
    rows: list[Example] = [Passage(TEXT), Passage(" ".join(words[: len(words) * 2 // 3]))]
    sets = [shingles(row) for row in rows]
    similarity = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    assert 0.6 < similarity < 0.7
    assert kept(rows, 0.8)[1] == 0 and kept(rows, 0.4)[1] == 1


def test_short_rows_and_rows_without_words() -> None:
    rows: list[Example] = [talk("hi", "hello"), talk("hi", "hello!"), talk("hi", "goodbye"), Passage("…"), Passage("…")]
    assert kept(rows) == ([rows[0], rows[2], rows[3], rows[4]], 1)


def test_numbers_and_signs_make_another_question() -> None:
    rows: list[Example] = [
        talk(f"What is {a} {sign} {b}?", str(n)) for n, (a, sign, b) in enumerate(((17, "+", 25), (17, "-", 25), (71, "+", 25)))
    ]
    assert kept(rows, 0.5) == (rows, 0)


def test_the_estimate_is_near_the_true_similarity() -> None:
    words = TEXT.split()
    for share in (0.5, 0.7, 0.9):
        left, right = Passage(TEXT), Passage(" ".join(words[: int(len(words) * share)]))
        sets = shingles(left), shingles(right)
        true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        one, two = sketched(left), sketched(right)
        assert one is not None and two is not None and abs(one.jaccard(two) - true) < 0.15  # three standard errors


def test_what_is_remembered_is_bounded_and_only_that_is_found() -> None:
    stream = random.Random(1)
    fresh = [Passage(" ".join(f"x{stream.randrange(10**6)}" for _ in range(20))) for _ in range(12)]
    sieve = NearUnique([fresh[0], *fresh[1:4], fresh[0], *fresh[4:], fresh[0]], 0.8, remembered=5)
    found = list(sieve)
    assert sieve.dropped == 1 and len(found) == 13  # the second copy of the first row came after five others
    assert len(sieve._kept) == len(sieve._order) == 5 and sieve._index.get_counts()[0] and len(sieve._index.keys) == 5


def test_rows_are_streamed_and_twice_is_the_same() -> None:
    taken = 0

    def endless():  # type: ignore[no-untyped-def]
        nonlocal taken
        stream = random.Random(2)
        while True:
            taken += 1
            yield Passage(" ".join(f"y{stream.randrange(3)}" for _ in range(8)))

    sieve = near_unique(endless(), 0.3)
    first = [next(sieve) for _ in range(40)]
    assert taken == 40 + sieve.dropped and sieve.dropped > 0
    again = near_unique(endless(), 0.3)
    assert [next(again) for _ in range(40)] == first and again.dropped == sieve.dropped


class Bytes:
    def example(self, example: Passage) -> tuple[array[int], array[int]]:
        return array("i", list(example.completion.encode())), array("b", [1] * len(example.completion.encode()))


class Written(list[Any]):
    def append(self, tokens: Any, mask: Any = None) -> None:
        super().append(bytes(tokens).decode())


def sft(**settings: Any) -> SftConfig:
    return SftConfig(data=[DataSource(source="x")], **settings)


def test_the_stage_counts_what_it_leaves_out_by_reason() -> None:
    rows = [Passage(TEXT), Passage(TEXT), Passage(COPIES["one word"]), Passage("Something else.")]
    for settings, written, dropped in (
        ({}, 3, {"exact duplicate": 1}),
        ({"near_duplicates": 0.8}, 2, {"exact duplicate": 1, "near-duplicate": 1}),
        ({"near_duplicates": 0.8, "dedup": False}, 2, {"near-duplicate": 2}),
    ):
        counts, found = Counts(), Written()
        write(found, rows, sft(**settings), Bytes(), counts)  # type: ignore[arg-type]
        assert (len(found), counts.rows, dict(counts.dropped)) == (written, written, dropped)


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, float("nan")])
def test_a_threshold_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="near_duplicates is"):
        sft(near_duplicates=value)
