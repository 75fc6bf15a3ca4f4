"""ChatML written by us: `<|im_start|>role`, the text, `<|im_end|>`; SmolLM2, Qwen and everything shaped like them.

What varies inside the family is read off the tokenizer's own template once, with probes: the default system prompt, whether
thinking is kept apart from the answer, whether tool results stand inside a user turn. If our rendering of the probes is not
the template's, the family does not fit and the caller falls back to the template itself (chat/incremental.py).

Tokens equal the template's, with these differences, all meant:
  * every assistant turn is encoded apart from its header, as a model writes it; the tokens differ only where the text begins
    with white space;
  * control tokens typed inside a message stay plain text;
  * thinking of earlier turns is kept (Qwen3's template drops it, so its prompts are not prefixes of one another), and no
    empty thinking block is added to answers without thinking;
  * tool calls and schemas are written even where the template ignores them (SmolLM2).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Any

from posttrain.chat.calls import split_calls, tool_notice, with_calls
from posttrain.chat.codec import Codec
from posttrain.chat.pieces import Piece, Tools
from posttrain.chat.template import Template, as_turn
from posttrain.core.errors import UserError
from posttrain.core.types import Message, ToolCall

START, END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True)
class ChatML:
    """The layout of one ChatML model. The flags are what `fit` found out."""

    template: Template
    end_of_turn: int
    default_system: str | None = None
    thinking_apart: bool = False
    results_in_user_turn: bool = False
    knows_tools: bool = False

    def pieces(self, messages: Sequence[Message], tools: Tools, context: int) -> list[Piece]:
        system = self._system(messages, tools)
        pieces = _turn("system", system) if system is not None else []
        first = 1 if messages and messages[0].role == "system" else 0
        for role, run in groupby(enumerate(messages[first:], first), key=lambda numbered: numbered[1].role):
            if role == "tool" and self.results_in_user_turn:
                results = (f"<tool_response>\n{message.content}\n</tool_response>" for _, message in run)
                pieces += _turn("user", "\n".join(results))
                continue
            for position, message in run:
                if role == "assistant":
                    pieces += _answer(message, learnt=position >= context)
                else:
                    pieces += _turn(role, message.content)
        return pieces

    def prompt(self, messages: Sequence[Message], tools: Tools) -> list[Piece]:
        return [*self.pieces(messages, tools, len(messages)), Piece(START, markup=True), Piece("assistant\n")]

    def parse(self, text: str) -> Message:
        if not self.thinking_apart:
            return Message("assistant", text)
        thinking, answer = split_thinking(text)
        content, calls = split_calls(answer)
        return Message("assistant", content, thinking, calls)

    def _system(self, messages: Sequence[Message], tools: Tools) -> str | None:
        given = messages[0].content if messages and messages[0].role == "system" else None
        if tools and self.knows_tools:
            return _system_with_tools(self.template, given, json.dumps([dict(tool) for tool in tools], ensure_ascii=False))
        text = given if given is not None else self.default_system
        if tools:
            return f"{text}\n\n{tool_notice(tools)}" if text else tool_notice(tools)
        return text


def fit(template: Template, codec: Codec) -> ChatML | None:
    """The ChatML layout that writes what this template writes, or None if the template is of another family."""
    if START not in codec.controls or END not in codec.controls:
        return None
    try:
        opening = template.render([_USER], answer_next=True)
        with_tools = _renders(template, [_USER], tools=[_TOOL])
    except UserError:
        return None
    tail = f"{_closed('user', 'u')}{START}assistant\n"
    head = opening.removesuffix(tail)
    system = head.removeprefix(f"{START}system\n").removesuffix(f"{END}\n") if head else None
    if head == opening or (system is not None and head != _closed("system", system)):
        return None
    layout = ChatML(
        template=template,
        end_of_turn=codec.controls[END],
        default_system=system,
        thinking_apart="</think>" in template.source,
        results_in_user_turn="<tool_response>" in template.source,
        knows_tools=with_tools not in (None, opening),
    )
    return layout if all(_agrees(layout, template, probe) for probe in _PROBES) else None


def split_thinking(text: str) -> tuple[str, str]:
    """(thinking, answer) of a completion. Thinking that was never closed was cut off: there is no answer then."""
    start = text.lstrip()
    if not start.startswith("<think>"):
        return "", text
    thinking, closed, answer = start.removeprefix("<think>").partition("</think>")
    return thinking.strip("\n"), answer.lstrip("\n") if closed else ""


_USER = {"role": "user", "content": "u"}
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}},
}
_CALL = ToolCall("f", {"x": 1})
_PROBES: tuple[tuple[Message, ...], ...] = (
    (Message("user", " u\n"), Message("assistant", "a"), Message("user", "v")),
    (Message("system", "s "), Message("user", "u"), Message("assistant", "a"), Message("user", "v")),
    (Message("user", "u"), Message("assistant", "a"), Message("tool", "r")),
    (Message("user", "u"), Message("assistant", "", tool_calls=(_CALL, _CALL)), Message("tool", "r"), Message("tool", "t")),
)


def _agrees(layout: ChatML, template: Template, probe: tuple[Message, ...]) -> bool:
    """Whether we write a probe as the template does. Where the template ignores or refuses tools, our own words stand."""
    expected = _renders(template, [as_turn(message) for message in probe])
    if any(message.tool_calls for message in probe):
        silent = _renders(template, [as_turn(replace(message, tool_calls=())) for message in probe])
        if expected == silent:
            return True
    if expected is None:
        return any(message.role == "tool" for message in probe)
    return "".join(piece.text for piece in layout.prompt(probe, ())) == expected


def _renders(template: Template, turns: Sequence[dict[str, Any]], tools: Tools = ()) -> str | None:
    try:
        return template.render(turns, tools=tools, answer_next=True)
    except UserError:
        return None


@lru_cache(maxsize=256)
def _system_with_tools(template: Template, given: str | None, tools: str) -> str:
    """The system turn's text as the template writes it for these tools: what stands before a known user turn."""
    turns = [{"role": "system", "content": given}, _USER] if given is not None else [_USER]
    text = template.render(turns, tools=json.loads(tools))
    start, end = f"{START}system\n", f"{END}\n{_closed('user', 'u')}"
    if not (text.startswith(start) and text.endswith(end)):
        raise UserError(f"the chat template of {template.name} does not write tools into the system turn.", fix="Remove the tools.")
    return text[len(start) : len(text) - len(end)]


def _closed(role: str, text: str) -> str:
    return "".join(piece.text for piece in _turn(role, text))


def _turn(role: str, text: str) -> list[Piece]:
    return [Piece(START, markup=True), Piece(f"{role}\n{text}"), Piece(END, markup=True), Piece("\n")]


def _answer(message: Message, *, learnt: bool) -> Iterator[Piece]:
    content = message.content
    if message.thinking:
        thinking = message.thinking.strip("\n")
        content = f"<think>\n{thinking}\n</think>\n\n{content.lstrip(chr(10))}"
    yield Piece(START, markup=True)
    yield Piece("assistant\n")
    yield Piece(with_calls(content, message.tool_calls), learnt=learnt)
    yield Piece(END, markup=True, learnt=learnt)
    yield Piece("\n")
