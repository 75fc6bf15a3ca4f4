"""Preferences from every layout people have, what is passed over, and what is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.config import PreferenceSource
from posttrain.core.errors import UserError
from posttrain.core.types import Message, Pair, Preference
from posttrain.data.preferences import EMPTY, EQUAL, Preferences, dialogue, preferences, write_preferences

USER, GOOD, BAD = Message("user", "2 + 2?"), Message("assistant", "4"), Message("assistant", "5")


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASK = turn("user", "2 + 2?")
YES, NO = turn("assistant", "4"), turn("assistant", "5")


def file(folder: Path, *rows: dict[str, Any], name: str = "pairs.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, **options: Any) -> Preferences:
    return preferences([PreferenceSource(source=str(path))], references={}, base=path.parent, seed=0, **options)


def one(folder: Path, row: dict[str, Any], **options: Any) -> Preference:
    return next(read(file(folder, row), **options))


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"prompt": [ASK], "chosen": [YES], "rejected": [NO]}, id="conversational, explicit prompt"),
        pytest.param({"chosen": [ASK, YES], "rejected": [ASK, NO]}, id="conversational, implicit prompt"),
        pytest.param({"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}, id="standard, explicit prompt"),
        pytest.param({"prompt": "2 + 2?", "chosen": [YES], "rejected": [NO]}, id="text and turns"),
        pytest.param({"prompt": "2 + 2?", "chosen": [ASK, YES], "rejected": [ASK, NO]}, id="UltraFeedback"),
        pytest.param({"chosen": "2 + 2? 4", "rejected": "2 + 2? 5"}, id="standard, implicit prompt"),
        pytest.param(
            {"chosen": "\n\nHuman: 2 + 2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2 + 2?\n\nAssistant: 5"}, id="Anthropic"
        ),
        pytest.param({"prompt": "\n\nHuman: 2 + 2?\n\nAssistant:", "chosen": "4", "rejected": "5"}, id="Anthropic, explicit"),
        pytest.param({"input": {"messages": [ASK]}, "preferred_output": [YES], "non_preferred_output": [NO]}, id="OpenAI"),
        pytest.param({"prompt": [ASK], "answers": [[YES], [NO]], "pairs": [{"better": 0, "worse": 1, "margin": None}]}, id="ours"),
    ],
)
def test_every_layout_says_the_same(tmp_path: Path, row: dict[str, Any]) -> None:
    found = one(tmp_path, row)
    assert found.prompt == (USER,)
    assert [found.answers[found.pairs[0].better], found.answers[found.pairs[0].worse]] == [(GOOD,), (BAD,)]
    assert found.pairs == (Pair(0, 1),)
    assert found.origin.endswith("pairs.jsonl:1")


def test_an_implicit_prompt_ends_with_a_whole_word(tmp_path: Path) -> None:
    found = one(tmp_path, {"chosen": "The sky is blue", "rejected": "The sky is black"})
    assert found.prompt[0].content == "The sky is"
    assert [answer[0].content for answer in found.answers] == ["blue", "black"]


def test_an_implicit_prompt_is_whole_turns(tmp_path: Path) -> None:
    again = turn("user", "sure?")
    found = one(tmp_path, {"chosen": [ASK, YES, again, YES], "rejected": [ASK, YES]})
    assert found.prompt == (USER,) and found.answers == ((GOOD, Message("user", "sure?"), GOOD), (GOOD,))


def test_dialogue_keeps_every_turn() -> None:
    turns = dialogue("\n\nHuman: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant:")
    assert [(t.role, t.content) for t in turns] == [("user", "a\n\nb"), ("assistant", "c"), ("user", "d")]
    assert dialogue("Human: a") == ()


def test_soft_labels_margins_and_ranks(tmp_path: Path) -> None:
    pairs = [{"better": 2, "worse": 0, "probability": 0.75, "margin": 1.5}, {"better": 1, "worse": 0}]
    ranked = one(tmp_path, {"prompt": [ASK], "answers": [[NO], [YES], [YES]], "pairs": pairs, "source": "judge"})
    assert len(ranked.answers) == 3 and ranked.source == "judge"
    assert ranked.pairs == (Pair(2, 0, 0.75, 1.5), Pair(1, 0))
    soft = one(tmp_path, {"prompt": "q", "chosen": "a", "rejected": "b", "probability": 0.6, "margin": 2})
    assert soft.pairs == (Pair(0, 1, 0.6, 2),)


def test_single_answers_are_for_those_who_ask_for_them(tmp_path: Path) -> None:
    path = file(tmp_path, {"prompt": "q", "completion": "a", "label": True}, {"prompt": "q", "completion": "", "label": False})
    with pytest.raises(UserError, match=r"pairs.jsonl:1: holds single answers"):
        next(read(path))
    found = read(path, unpaired=True)
    rows = list(found)
    assert [row.labels for row in rows] == [(True,)] and not rows[0].pairs
    assert found.skipped == {EMPTY: 1}


def test_what_cannot_teach_is_counted(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        {"prompt": "q", "chosen": "same", "rejected": "same"},
        {"chosen": "one text", "rejected": "one text"},
        {"chosen": [YES], "rejected": [YES]},
        {"prompt": "q", "chosen": "a", "rejected": ""},
        {"prompt": "q", "chosen": [], "rejected": "  "} | {"chosen": "  "},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
    )
    found = read(path)
    assert [row.origin[-2:] for row in found] == [":6"]
    assert found.skipped == {EQUAL: 3, EMPTY: 2}


def test_one_bad_pair_leaves_the_others(tmp_path: Path) -> None:
    pairs = [{"better": 0, "worse": 1}, {"better": 0, "worse": 2}, {"better": 0, "worse": 3}]
    row = {"prompt": [ASK], "answers": [[YES], [YES], [NO], []], "pairs": pairs}
    found = read(file(tmp_path, row))
    assert next(found).pairs == (Pair(0, 2),)
    assert found.skipped == {EQUAL: 1, EMPTY: 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "q", "chosen": "a"}, r":2: has no column 'rejected'"),
        ({"prompt": "q", "chosen": "a", "rejected": ["b"]}, r":2: chosen and rejected differ in kind"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, r":2: prompt is empty"),
        ({"chosen": "abc", "rejected": "xyz"}, r":2: chosen and rejected have no words in common"),
        ({"chosen": [YES], "rejected": [NO]}, r":2: chosen and rejected have no turn in common"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": "big"}, r":2: margin is 'big'"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": 10**400}, r":2: margin is beyond 1e\+30"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "probability": -(10**400)}, r":2: probability is beyond"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "probability": 1.5}, r":2: a pair's probability is 1.5"),
        ({"prompt": [turn("gpt", "q")], "chosen": "a", "rejected": "b"}, r":2: message 1 has role 'gpt'"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "tools": [{}]}, r":2: has tools"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    good = {"chosen": [ASK, YES], "rejected": [ASK, NO]}
    found = read(file(tmp_path, good, row))
    next(found)
    with pytest.raises(UserError, match=said):
        next(found)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([{"better": 0, "worse": 5}], "beyond the 2"),
        ([{"better": 1, "worse": 1}], "two different answers"),
        ([{"better": 0}], "names no two answers"),
        ("0>1", "pairs is not a list"),
    ],
)
def test_pairs_must_name_answers(tmp_path: Path, pairs: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        one(tmp_path, {"prompt": [ASK], "answers": [[YES], [NO]], "pairs": pairs})


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pairs.jsonl:1: has columns messages; expected"):
        one(tmp_path, {"messages": [ASK, YES]})
    with pytest.raises(UserError, match="no built-in set holds preferences"):
        preferences([PreferenceSource(source="builtin:arithmetic")], references={}, base=tmp_path, seed=0)


def test_written_and_read_again(tmp_path: Path) -> None:
    before = [
        Preference((USER,), ((GOOD,), (BAD,)), (Pair(0, 1, 0.9, 0.5),), source="verifier", slices={"digits": "1"}),
        Preference((USER,), ((GOOD,),), (), labels=(True,)),
    ]
    path = tmp_path / "out.jsonl"
    assert write_preferences(path, before, [{"task": "t"}, {}]) == 2
    assert json.loads(path.read_text().splitlines()[0])["provenance"] == {"task": "t"}
    after = list(read(path, unpaired=True))
    for one_before, one_after in zip(before, after, strict=True):
        for name in ("prompt", "answers", "pairs", "source", "slices", "labels"):
            assert getattr(one_before, name) == getattr(one_after, name), name


def test_sources_are_mixed_by_weight_and_bounded(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows = [{"prompt": f"{name}{i}", "chosen": "x", "rejected": "y"} for i in range(12)]
        file(tmp_path, *rows, name=f"{name}.jsonl")
    sources = [PreferenceSource(source="./a.jsonl", weight=3), PreferenceSource(source="stage", count=3)]
    references = {"stage": str(tmp_path / "b.jsonl")}
    found = [p.prompt[0].content[0] for p in preferences(sources, references=references, base=tmp_path, seed=1)]
    assert found.count("b") == 3 and found.count("a") >= 9
    again = [p.prompt[0].content[0] for p in preferences(sources, references=references, base=tmp_path, seed=1)]
    assert found == again
