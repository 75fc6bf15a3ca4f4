"""Tool calls in the formats of model families: which one a template asks for, what is a call, and what stays text."""

from __future__ import annotations

from typing import Any

import pytest

from posttrain.chat import renderer
from posttrain.chat.calls import Split, split_calls, split_list, split_object, split_of
from posttrain.chat.template import Template, as_turn
from posttrain.core.types import Message, ToolCall
from tests.chat.test_chat import byte_level

ADD = ToolCall("add", {"a": 1, "b": [2]})
# Templates in our own words, with the marks that the families use.
LLAMA = """
{%- for m in messages -%}
<|h|>{{ m.role }}<|/h|>
{%- if m.tool_calls %}{% set f = m.tool_calls[0].function -%}
{{ '{"name": "' + f.name + '", "parameters": ' + f.arguments | tojson + '}' }}
{%- else %}{{ m.content }}{% endif %}<|eot|>
{%- endfor %}{% if add_generation_prompt %}<|h|>assistant<|/h|>{% endif %}"""
MISTRAL = """
{%- for m in messages -%}
{%- if m.role == 'assistant' %}
{%- if m.tool_calls %}{% set f = m.tool_calls[0].function -%}
[TOOL_CALLS][{{ '{"name": "' + f.name + '", "arguments": ' + f.arguments | tojson + '}' }}]
{%- else %}{{ m.content }}{% endif %}<|eot|>
{%- else %}[INST]{{ m.content }}[/INST]{% endif %}
{%- endfor %}"""


def template(source: str) -> tuple[Any, Template]:
    tokenizer = byte_level(source, "<|h|>", "<|/h|>", "<|eot|>", "[TOOL_CALLS]", "[INST]", "[/INST]", end="<|eot|>")
    return tokenizer, Template(tokenizer, "a model")


@pytest.mark.parametrize(
    ("source", "expected"), [(LLAMA, split_object), (MISTRAL, split_list), ("{{ messages[0].content }}", split_calls)]
)
def test_the_template_says_which_format(source: str, expected: Split) -> None:
    assert split_of(template(source)[1]) is expected


def test_a_call_that_the_template_writes_is_read_back() -> None:
    for source in (LLAMA, MISTRAL):
        tokenizer, made = template(source)
        turns = [as_turn(Message("user", "u")), as_turn(Message("assistant", "", tool_calls=(ADD,)))]
        answer = made.render(turns).removeprefix(made.render(turns[:1], answer_next=True)).removesuffix("<|eot|>")
        read = renderer(tokenizer).parse(answer.replace("[TOOL_CALLS]", ""), calls=True)  # decoding drops control tokens
        assert read == Message("assistant", "", tool_calls=(ADD,))
        assert renderer(tokenizer).parse(answer, calls=False).tool_calls == ()


@pytest.mark.parametrize(
    ("split", "text", "calls"),
    [
        (split_object, '{"name": "add", "parameters": {"a": 1, "b": [2]}}', 1),
        (split_object, ' <|python_tag|>{"name": "add", "parameters": {"a": 1, "b": [2]}}\n', 1),
        (split_object, 'I call {"name": "add", "parameters": {}}', 0),  # text around is no call
        (split_object, '{"name": "add", "parameters": {}} {"name": "add"}', 0),
        (split_object, '{"name": "add", "parameters": "a"}', 0),
        (split_object, '{"name": "add", "name": "sub", "parameters": {}}', 0),
        (split_object, '{"name": "add", "parameters": {"a": NaN}}', 0),
        (split_object, '{"name": 7, "parameters": {}}', 0),
        (split_object, '{"name": "add", "parameters": {', 0),
        (split_object, "{" * 100_000, 0),
        (split_list, '[{"name": "add", "arguments": {"a": 1, "b": [2]}}, {"name": "add", "arguments": {"a": 1, "b": [2]}}]', 2),
        (split_list, '[{"name": "add", "arguments": {}}, {"name": 1}]', 0),  # one that cannot be read spoils all
        (split_list, "[1, 2]", 0),
        (split_list, "[]", 0),
        (split_list, "[" * 100_000, 0),
        (split_list, "no call", 0),
        (split_calls, 'First.\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2]}}\n</tool_call>', 1),
        (split_calls, '<tool_call>{"name": "add"', 0),
        (split_calls, '<tool_call>{"name": "__import__(\'os\')", "arguments": [1]}</tool_call>', 0),
    ],
)
def test_what_is_a_call_and_what_stays_text(split: Split, text: str, calls: int) -> None:
    rest, found = split(text)
    assert len(found) == calls
    assert found == (ADD,) * calls and (rest == text if not calls else rest in ("", "First."))
