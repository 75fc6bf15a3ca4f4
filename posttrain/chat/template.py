"""A tokenizer's own chat template as a function from messages to text. Jinja's errors become ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.chat.pieces import Tools
from posttrain.core.errors import UserError
from posttrain.core.types import Message

Turn = Mapping[str, Any]


class Template:
    """Renders with the tokenizer's template. `name` is the model's, for messages to people."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer, self.name = tokenizer, name
        source = getattr(tokenizer, "chat_template", None)
        # Several named templates come as a dict; the one called default is what transformers uses.
        self.source: str = source.get("default", "") if isinstance(source, dict) else (source or "")

    def render(self, turns: Sequence[Turn], *, tools: Tools = (), answer_next: bool = False) -> str:
        import jinja2

        try:
            text: str = self._tokenizer.apply_chat_template(
                [dict(turn) for turn in turns],
                tools=[dict(tool) for tool in tools] or None,
                add_generation_prompt=answer_next,
                tokenize=False,
            )
        except (jinja2.TemplateError, TypeError, KeyError, IndexError) as error:
            roles = ", ".join(str(turn["role"]) for turn in turns) or "none"
            raise UserError(
                f"the chat template of {self.name} does not accept this conversation (roles: {roles}): {error}.",
                fix="Change the order of the turns to what the model expects.",
            ) from error
        return text


def as_turn(message: Message) -> dict[str, Any]:
    """A message in the form templates read: OpenAI's keys, and reasoning_content for thinking."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        turn["reasoning_content"] = message.thinking
    if message.name:
        turn["name"] = message.name
    if message.tool_calls:
        turn["tool_calls"] = [
            {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.tool_calls
        ]
    return turn
