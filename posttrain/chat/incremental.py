"""Any other chat template: render a longer and longer prefix of the conversation and take what each turn added.

    p = render(turns before the answer, generation prompt)      f = render(turns up to and including it)

`f` must begin with `p`; what follows is the model's own text and the template's closer, whose first control token ends
the turn. Templates for which that is not so (they rewrite earlier turns, or nothing ends an answer) are refused, because a
mask made for them would be wrong in silence.

Control tokens typed inside a message go through the template as private-use characters and are encoded as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.chat.codec import Codec
from posttrain.chat.pieces import Piece, Tools
from posttrain.chat.template import Template, Turn, as_turn
from posttrain.core.errors import UserError
from posttrain.core.types import Message

_PRIVATE = range(0xF0000, 0xFFFFE)
_ANSWER = "Answer"


@dataclass(frozen=True)
class Incremental:
    """A layout that asks the template. `closer` is what stands after an answer; it begins with the end-of-turn token."""

    template: Template
    controls: tuple[str, ...]
    end_of_turn: int
    end_text: str
    closer: str

    def pieces(self, messages: Sequence[Message], tools: Tools, context: int) -> list[Piece]:
        return self._render(messages, tools, context, answer_next=False)

    def prompt(self, messages: Sequence[Message], tools: Tools) -> list[Piece]:
        turns = [as_turn(message) for message in messages]
        if tools and self.template.render(turns, tools=tools) == self.template.render(turns):
            raise UserError(
                f"the chat template of {self.template.name} does not tell the model about tools.",
                fix="Use a model whose template knows tools, or one of the ChatML family.",
            )
        return self._render(messages, tools, len(messages), answer_next=True)

    def parse(self, text: str) -> Message:
        return Message("assistant", text)

    def _render(self, messages: Sequence[Message], tools: Tools, context: int, *, answer_next: bool) -> list[Piece]:
        guard = _Guard.over(self.controls, [as_turn(message) for message in messages])
        turns = [guard.hide(as_turn(message)) for message in messages]
        pieces: list[Piece] = []
        done = ""
        for position, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self._extend(done, turns[:position], tools, answer_next=True)
            pieces += guard.reveal(before[len(done) :], learnt=False)
            done = self._extend(before, turns[: position + 1], tools, answer_next=False)
            answer = done[len(before) :]
            if not answer.endswith(self.closer):
                raise self._refuse("does not close an answer the same way every time")
            self._nothing_lost(turns[: position + 1], tools, done)
            learnt = position >= context
            pieces += guard.reveal(answer.removesuffix(self.closer), learnt=learnt)
            pieces.append(Piece(self.end_text, markup=True, learnt=learnt))
            pieces.append(Piece(self.closer.removeprefix(self.end_text), markup=True))
        if answer_next or messages[-1].role != "assistant":
            whole = self._extend(done, turns, tools, answer_next=answer_next)
            pieces += guard.reveal(whole[len(done) :], learnt=False)
        return pieces

    def _extend(self, done: str, turns: Sequence[Turn], tools: Tools, *, answer_next: bool) -> str:
        text = self.template.render(turns, tools=tools, answer_next=answer_next)
        if not text.startswith(done):
            raise self._refuse("rewrites earlier turns when a turn is added")
        return text

    def _nothing_lost(self, turns: Sequence[Turn], tools: Tools, text: str) -> None:
        """Refuse an answer whose thinking or calls the template leaves out: the model would learn something else."""
        last = turns[-1]
        for key in ("reasoning_content", "tool_calls"):
            without = {name: value for name, value in last.items() if name != key}
            if key in last and self.template.render([*turns[:-1], without], tools=tools) == text:
                raise UserError(
                    f"the chat template of {self.template.name} leaves out an answer's {key}.",
                    fix=f"Remove {key} from the data, or write it into the content.",
                )

    def _refuse(self, what: str) -> UserError:
        return UserError(
            f"the chat template of {self.template.name} {what}, so it cannot be known which tokens the model wrote.",
            fix="Use a model with a prefix-preserving template, such as the ChatML family.",
        )


def fit(template: Template, codec: Codec) -> Incremental:
    """Probe the template with two turns and refuse it (UserError) if answers cannot be told apart from the rest."""
    layout = Incremental(template, tuple(codec.controls), -1, "", "")
    question, answer = {"role": "user", "content": "Question"}, {"role": "assistant", "content": _ANSWER}
    before = template.render([question], answer_next=True)
    after = layout._extend(before, [question, answer], (), answer_next=False)
    closer = after[len(before) :].removeprefix(_ANSWER)
    if closer == after[len(before) :]:
        raise layout._refuse("writes more in front of a finished answer than in front of a new one")
    ids = codec.markup(closer) if closer else []
    end_text = next((text for text, token in codec.controls.items() if ids and token == ids[0]), "")
    if not end_text or not closer.startswith(end_text):
        raise UserError(
            f"the chat template of {template.name} ends an answer with {closer!r}; expected an end-of-turn token.",
            fix="Use a model whose template closes every turn with a special token, or the model would never learn to stop.",
        )
    layout._extend(after, [question, answer, question], (), answer_next=True)
    return Incremental(template, tuple(codec.controls), ids[0], end_text, closer)


@dataclass(frozen=True)
class _Guard:
    """Stand-ins for the control tokens that people typed: a private-use character for each literal."""

    stand_in: Mapping[str, str]

    @classmethod
    def over(cls, controls: Sequence[str], turns: Sequence[Turn]) -> _Guard:
        texts = [text for turn in turns for key, value in turn.items() if key != "role" for text in _strings(value)]
        typed = [literal for literal in controls if any(literal in text for text in texts)]
        taken = {character for text in texts for character in text if ord(character) >= _PRIVATE.start} if typed else set()
        free = (chr(code) for code in _PRIVATE if chr(code) not in taken)
        return cls(dict(zip(sorted(typed, key=len, reverse=True), free, strict=False)))

    def hide(self, turn: Turn) -> dict[str, Any]:
        return {key: value if key == "role" else _replaced(value, self.stand_in) for key, value in turn.items()}

    def reveal(self, text: str, *, learnt: bool) -> Iterator[Piece]:
        literal = {character: typed for typed, character in self.stand_in.items()}
        parts = re.split(f"([{''.join(literal)}])", text) if literal else [text]
        for part in parts:
            if part:
                yield Piece(literal.get(part, part), markup=part not in literal, learnt=learnt)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _strings(inner)


def _replaced(value: Any, stand_in: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for literal, character in stand_in.items():
            value = value.replace(literal, character)
        return value
    if isinstance(value, Mapping):
        return {_replaced(key, stand_in): _replaced(inner, stand_in) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_replaced(inner, stand_in) for inner in value]
    return value
