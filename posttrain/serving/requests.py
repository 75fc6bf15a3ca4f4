"""A chat completion request's body -> what the engine needs. What we cannot do is refused by name, never ignored.

Fields as in OpenAI's API reference for chat completions. A field that would change nothing (`user`), or that stands at the value
it has when it is left out (`presence_penalty: 0`), is accepted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posttrain.core.types import Message, Role, Sampling

MOST_SAMPLES, MOST_TOP, MOST_STOPS = 128, 20, 16
ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
WITHOUT_EFFECT = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
ONLY_AS_LEFT_OUT: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}


class BadRequest(Exception):
    """What is wrong with a request: its HTTP status, the field, and OpenAI's code where it has one."""

    def __init__(self, message: str, *, field: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.field, self.status, self.code = message, field, status, code


@dataclass(frozen=True)
class ChatRequest:
    """One request, checked."""

    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int | None
    samples: int
    logprobs: bool
    top: int
    stream: bool
    usage_in_stream: bool


def read_request(content: bytes, *, model: str, default_tokens: int) -> ChatRequest:
    """The request in a body. Raises BadRequest. `model` is the name that is served."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    body = {name: value for name, value in body.items() if value is not None}
    require_model(body, model)
    found = ChatRequest(
        messages=read_messages(body),
        sampling=read_sampling(body, default_tokens),
        seed=whole(body, "seed", None, low=-(2**63), high=2**63 - 1),
        samples=whole(body, "n", 1, low=1, high=MOST_SAMPLES) or 1,
        logprobs=flag(body, "logprobs"),
        top=whole(body, "top_logprobs", 0, low=0, high=MOST_TOP) or 0,
        stream=flag(body, "stream"),
        usage_in_stream=read_stream_options(body),
    )
    if found.top and not found.logprobs:
        raise BadRequest("top_logprobs needs logprobs: true", field="top_logprobs")
    require_known(body)
    return found


def require_model(body: Mapping[str, Any], model: str) -> None:
    named = body.get("model")
    if not isinstance(named, str):
        raise BadRequest("model is missing; expected the name that /v1/models lists", field="model")
    if named != model:
        raise BadRequest(
            f"model {named[:80]!r} is not served here; this is {model!r}", field="model", status=404, code="model_not_found"
        )


def require_known(body: Mapping[str, Any]) -> None:
    known = {"model", "messages", "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "stop", "seed", "n"}
    known |= {"logprobs", "top_logprobs", "stream", "stream_options"} | WITHOUT_EFFECT
    for name, value in body.items():
        if name not in known and value not in ONLY_AS_LEFT_OUT.get(name, ()):
            raise BadRequest(f"{name[:80]} is not supported here", field=name[:80])


def read_messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise BadRequest("messages is empty or no list; expected at least one message", field="messages")
    found = tuple(read_message(each, f"messages[{index}]") for index, each in enumerate(given))
    if found[-1].role == "assistant":
        raise BadRequest("the last message is the assistant's own; expected a user's or a tool's", field="messages")
    return found


def read_message(value: Any, field: str) -> Message:
    if not isinstance(value, dict):
        raise BadRequest(f"{field} is not an object", field=field)
    role = ROLES.get(str(value.get("role")))
    if role is None:
        raise BadRequest(
            f"{field}.role is {str(value.get('role'))[:40]!r}; expected one of {', '.join(ROLES)}", field=f"{field}.role"
        )
    if value.get("tool_calls") or value.get("function_call"):
        raise BadRequest(f"{field} holds tool calls, which are not supported here", field=field)
    content = value.get("content")
    if isinstance(content, list):
        content = "".join(part_text(part, field) for part in content)
    if not isinstance(content, str):
        raise BadRequest(f"{field}.content is not text", field=f"{field}.content")
    try:
        content.encode()  # half a surrogate pair, which JSON allows and no tokenizer reads
    except UnicodeEncodeError:
        raise BadRequest(f"{field}.content is not valid text", field=f"{field}.content") from None
    return Message(role, content)


def part_text(part: Any, field: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise BadRequest(f"{field}.content holds a part that is not text", field=f"{field}.content")


def read_sampling(body: Mapping[str, Any], default_tokens: int) -> Sampling:
    name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    return Sampling(
        temperature=number(body, "temperature", 1.0, low=0.0, high=100.0),
        max_tokens=whole(body, name, default_tokens, low=1, high=2**31 - 1) or default_tokens,
        top_p=number(body, "top_p", 1.0, low=1e-9, high=1.0),
        top_k=whole(body, "top_k", 0, low=0, high=2**31 - 1) or 0,
        stop=read_stop(body),
    )


def read_stop(body: Mapping[str, Any]) -> tuple[str, ...]:
    given = body.get("stop", [])
    stops = [given] if isinstance(given, str) else given
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(stop, str) and stop for stop in stops):
        raise BadRequest(f"stop is not a text or a list of up to {MOST_STOPS} texts", field="stop")
    return tuple(stops)


def read_stream_options(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options", {})
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise BadRequest("stream_options may hold include_usage only", field="stream_options")
    return flag(options, "include_usage")


def flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{name} is not true or false", field=name)
    return value


def whole(body: Mapping[str, Any], name: str, default: int | None, *, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(f"{name} is {str(value)[:40]}; expected a whole number from {low} to {high}", field=name)
    return value


def number(body: Mapping[str, Any], name: str, default: float, *, low: float, high: float) -> float:
    value = body.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(f"{name} is {str(value)[:40]}; expected a number from {low:g} to {high:g}", field=name)
    return float(value)
