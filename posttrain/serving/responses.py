"""What was written -> the JSON of OpenAI's chat completions: whole answers, pieces of a stream, errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from posttrain.core.types import Completion, Message, TokenChoice

LOWEST = -9999.0
"""Stands for the logarithm of 0, which JSON has no number for; OpenAI's API uses the same."""


def chat_completion(
    identity: str, created: int, model: str, answers: Sequence[tuple[Message, Completion, Sequence[TokenChoice] | None]], asked: int
) -> dict[str, Any]:
    """The whole response; `asked` is the prompt's number of tokens."""
    choices = [
        {
            "index": index,
            "message": message_of(message),
            "finish_reason": completion.finish,
            "logprobs": None if tokens is None else {"content": [token_entry(token) for token in tokens], "refusal": None},
        }
        for index, (message, completion, tokens) in enumerate(answers)
    ]
    written = sum(len(completion.tokens) for _, completion, _ in answers)
    head = {"id": identity, "object": "chat.completion", "created": created, "model": model}
    return {**head, "choices": choices, "usage": usage(asked, written)}


def message_of(message: Message) -> dict[str, Any]:
    """Reasoning stands apart under the name that vLLM and others use."""
    shown: dict[str, Any] = {"role": "assistant", "content": message.content}
    return {**shown, "reasoning_content": message.thinking} if message.thinking else shown


def chunk(
    identity: str,
    created: int,
    model: str,
    index: int,
    delta: dict[str, Any],
    *,
    finish: str | None = None,
    tokens: Sequence[TokenChoice] | None = None,
) -> dict[str, Any]:
    """One piece of a stream."""
    choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}
    if tokens is not None:
        choice["logprobs"] = {"content": [token_entry(token) for token in tokens], "refusal": None}
    head = {"id": identity, "object": "chat.completion.chunk", "created": created, "model": model}
    return {**head, "choices": [choice]}


def last_chunk(identity: str, created: int, model: str, asked: int, written: int) -> dict[str, Any]:
    """What `stream_options.include_usage` asks for: a piece without choices."""
    head = {"id": identity, "object": "chat.completion.chunk", "created": created, "model": model}
    return {**head, "choices": [], "usage": usage(asked, written)}


def usage(asked: int, written: int) -> dict[str, int]:
    return {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}


def token_entry(token: TokenChoice) -> dict[str, Any]:
    top = [{"token": text, "logprob": finite(logprob), "bytes": list(text.encode())} for text, logprob in token.top]
    return {"token": token.text, "logprob": finite(token.logprob), "bytes": list(token.text.encode()), "top_logprobs": top}


def finite(logprob: float) -> float:
    return max(logprob, LOWEST)


def error(message: str, *, status: int, field: str | None = None, code: str | None = None) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}
