"""The renderer of one model: messages -> tokens and loss mask, tokens -> text. The only place that knows templates.

The mask is 1 on the text of every learnt assistant turn and on its end-of-turn token, and 0 elsewhere. It comes from the
pieces a layout writes, never from looking for text, and never from `== pad_id`: on SmolLM2 the pad token is the
end-of-turn token, and masking it would make a model that never stops.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from posttrain.chat import chatml, incremental
from posttrain.chat.calls import Split, split_calls, split_of
from posttrain.chat.codec import Codec
from posttrain.chat.pieces import Layout, Piece, Tools
from posttrain.chat.template import Template
from posttrain.core.errors import UserError
from posttrain.core.types import Conversation, Example, Message, Passage

Encoded = tuple["array[int]", "array[int]"]


class ChatRenderer:
    """Made by `renderer`. `stop_ids` end a generated answer; `pad_id` fills rows and means nothing."""

    def __init__(self, codec: Codec, layout: Layout | None, split: Split = split_calls) -> None:
        self._codec, self._layout, self._split = codec, layout, split
        self.pad_id = codec.pad
        ends = [] if layout is None else [layout.end_of_turn]
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys([*ends, *([] if codec.end is None else [codec.end])]))

    def prompt(self, messages: Sequence[Message], tools: Tools = ()) -> array[int]:
        """Tokens up to and including the header that makes the assistant speak next."""
        if not messages:
            raise UserError("a prompt has no messages; expected at least one turn.", fix="Add a user turn.")
        if messages[-1].role == "assistant":
            raise UserError("a prompt ends with an assistant turn; expected a user or tool turn.", fix="Remove the last turn.")
        return self._encode(self._chat().prompt(messages, tools))[0]

    def following(
        self, messages: Sequence[Message], written: array[int], added: Sequence[Message], tools: Tools = ()
    ) -> array[int]:
        """What the template writes between an answer and the next one: the rest of the closed turn, the `added` turns, and the
        header that makes the assistant speak again. The conversation's tokens so far and these are the next prompt, so the
        model's own tokens are never encoded again.

        `messages` end with the answer, its text as the model wrote it, and `written` are its tokens; where they lack the
        end-of-turn token, it is put in. UserError if the template would rewrite the turns before.
        """
        layout = self._chat()
        if not messages or messages[-1].role != "assistant" or not added or added[-1].role == "assistant":
            raise UserError("a conversation goes on from an assistant turn with a user or tool turn.", fix="Add one.")
        done = layout.pieces(messages, tools, len(messages) - 1)
        whole = layout.prompt([*messages, *added], tools)
        if [(piece.text, piece.markup) for piece in whole[: len(done)]] != [(piece.text, piece.markup) for piece in done]:
            raise UserError(
                f"the chat template of {self._codec.name} rewrites earlier turns when a turn is added.",
                fix="Use a model with a prefix-preserving template, such as the ChatML family.",
            )
        close = max(index for index, piece in enumerate(done) if piece.learnt)  # the end-of-turn token
        ended = len(written) > 0 and written[-1] == layout.end_of_turn
        return self._encode(whole[close + 1 if ended else close :])[0]

    def conversation(self, messages: Sequence[Message], *, context: int = 0, tools: Tools = ()) -> Encoded:
        """Tokens and mask of a whole conversation. Assistant turns before message `context` are read, not learnt."""
        if not any(message.role == "assistant" for message in messages[context:]):
            raise UserError("a conversation has no assistant turn to learn from.", fix="Remove the row, or add an answer.")
        return self._encode(self._chat().pieces(messages, tools, context))

    def passage(self, passage: Passage) -> Encoded:
        """Plain text without a template: the completion and the end token are learnt, the prompt and the start are not."""
        end = self._codec.end
        if end is None:
            raise UserError(
                f"tokenizer of {self._codec.name} has no end token (eos).", fix="Set eos_token in tokenizer_config.json."
            )
        start = [*self._codec.begin, *self._codec.plain(passage.prompt)]
        learnt = [*self._codec.plain(passage.completion), end]
        return array("i", start + learnt), array("b", bytes(len(start)) + b"\x01" * len(learnt))

    def example(self, example: Example) -> Encoded:
        """Tokens and mask of a training example of either kind. An error says where the example came from."""
        try:
            if isinstance(example, Conversation):
                return self.conversation(example.messages, context=example.context, tools=example.tools)
            return self.passage(example)
        except UserError as error:
            if error.place:
                raise
            raise UserError(error.message, place=example.origin, fix=error.fix) from error

    def decode(self, tokens: Sequence[int] | array[int]) -> str:
        """Text without control tokens."""
        return self._codec.decode(tokens)

    def show(self, tokens: Sequence[int] | array[int]) -> str:
        """Text with control tokens written out, for people."""
        return self._codec.show(tokens)

    def parse(self, text: str, *, calls: bool = False) -> Message:
        """The assistant's message that a completion's text stands for. Thinking and tool calls are split off only where the
        model's template keeps them apart; elsewhere the text stays as it is, and graders see all of it. With `calls`, because
        tools were offered, calls are split off whatever the template."""
        message = Message("assistant", text) if self._layout is None else self._layout.parse(text)
        if not calls or message.tool_calls:
            return message
        content, found = self._split(message.content)
        return replace(message, content=content, tool_calls=found)

    def _chat(self) -> Layout:
        if self._layout is None:
            raise UserError(
                f"tokenizer of {self._codec.name} has no chat template, so conversations cannot be written for it.",
                fix="Use an instruct model, or data with text columns (text, or prompt and completion as strings).",
            )
        return self._layout

    def _encode(self, pieces: Sequence[Piece]) -> Encoded:
        tokens, mask = array("i"), array("b")
        for piece in pieces:
            ids = self._codec.markup(piece.text) if piece.markup else self._codec.plain(piece.text)
            tokens.extend(ids)
            mask.frombytes((b"\x01" if piece.learnt else b"\x00") * len(ids))
        return tokens, mask


def renderer(tokenizer: Any) -> ChatRenderer:
    """The renderer for a transformers tokenizer. UserError if its chat template cannot be masked correctly."""
    codec = Codec(tokenizer)
    template = Template(tokenizer, codec.name)
    if not template.source:
        return ChatRenderer(codec, None)
    return ChatRenderer(codec, chatml.fit(template, codec) or incremental.fit(template, codec), split_of(template))
