"""The tokens between one answer and the next: with the model's own tokens before them they are the next prompt, in every family."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.chat import ChatRenderer, renderer
from posttrain.core.errors import UserError
from posttrain.core.types import Message, ints
from posttrain.models.toy import byte_tokenizer

HEADERS = """{{ '<|begin|>' }}{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}
{{- '<|head|>' + m.role + '<|/head|>\n\n' + m.content | trim + '<|eot|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"""
SILENT = HEADERS.replace("{% if tools %}{{ tools | tojson }}{% endif %}", "")
SHORTENS = "{% for m in messages %}{{ '<|head|>' + m.role + (m.content if loop.last or loop.index > 2 or messages|length < 4 else '…') + '<|eot|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|head|>assistant' }}{% endif %}"  # noqa: E501
LOOK = {"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object", "properties": {}}}}
words = st.text(alphabet="abc <>|/_imend\n", max_size=12)


def headers(template: str = HEADERS) -> ChatRenderer:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|begin|>", "<|head|>", "<|/head|>", "<|eot|>"]})
    tokenizer.eos_token, tokenizer.chat_template = "<|eot|>", template
    return renderer(tokenizer)


CHATS = {"chatml": renderer(byte_tokenizer()), "headers": headers()}


@pytest.mark.parametrize("family", CHATS)
@given(answer=words, results=st.lists(words, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_prompt_answer_and_following_are_the_next_prompt(family: str, answer: str, results: list[str]) -> None:
    chat, tools = CHATS[family], [LOOK]
    answer = (
        answer.strip() if family == "headers" else answer
    )  # a template that trims answers writes another text than the model did
    before = [Message("user", "u"), Message("assistant", answer)]
    added = [Message("tool", result) for result in results]
    prompt = chat.prompt(before[:1], tools)
    written = ints([*chat._codec.plain(answer), chat.stop_ids[0]])
    assert prompt + written + chat.following(before, written, added, tools) == chat.prompt([*before, *added], tools)


@pytest.mark.parametrize("family", CHATS)
def test_an_answer_without_its_end_gets_it(family: str) -> None:
    chat = CHATS[family]
    before, added = [Message("user", "u"), Message("assistant", "ab")], [Message("user", "v")]
    open_, closed = ints(chat._codec.plain("ab")), ints([*chat._codec.plain("ab"), chat.stop_ids[0]])
    assert open_ + chat.following(before, open_, added) == closed + chat.following(before, closed, added)


def test_what_the_model_wrote_may_be_anything_that_the_template_would_trim() -> None:
    """The template trims the answer; the model's own tokens stay as they are, and the rest is what the template writes."""
    chat = headers()
    before, added = [Message("user", "u"), Message("assistant", "  a  ")], [Message("user", "v")]
    written = ints([*chat._codec.plain("  a  "), chat.stop_ids[0]])
    assert chat.show(chat.following(before, written, added)) == "<|head|>user<|/head|>\n\nv<|eot|><|head|>assistant<|/head|>\n\n"


def test_a_template_that_rewrites_earlier_turns_or_says_nothing_of_tools_is_refused() -> None:
    long = [Message("user", "one"), Message("assistant", "two"), Message("user", "three"), Message("assistant", "four")]
    with pytest.raises(UserError, match="rewrites earlier turns"):
        headers(SHORTENS).following(long, ints([1]), [Message("user", "five")])
    with pytest.raises(UserError, match="does not tell the model about tools"):
        headers(SILENT).prompt([Message("user", "u")], [LOOK])


@pytest.mark.parametrize(
    ("text", "content", "names"),
    [
        ('hm\n<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>', "hm", ["look"]),
        ('<tool_call>{"name": "look"', '<tool_call>{"name": "look"', []),
        ("plain", "plain", []),
    ],
)
def test_calls_are_read_where_tools_were_offered_and_only_there(text: str, content: str, names: list[str]) -> None:
    chat: Any = CHATS["chatml"]
    message = chat.parse(text, calls=True)
    assert (message.content, [call.name for call in message.tool_calls]) == (content, names)
    assert chat.parse(text) == Message("assistant", text)
