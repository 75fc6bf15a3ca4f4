"""A chat model behind any endpoint that speaks OpenAI's chat completions. The one place that retries.

Tried again: broken connections, timeouts, HTTP 408, 429 and 5xx, with exponential backoff and full jitter, or after as long as
Retry-After says. Not tried again: what the server refuses or answers wrongly, which is Unanswered at once. A 401, 403 or 404
would come for every request and is the user's to mend. After several unanswered requests in a row a breaker lets nothing
through for a while, so that a dead server costs seconds and not retries × requests. The token is read from the environment and
never leaves the header. Fails where a server answers 200 with text that is wrong: nothing here can tell.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import random
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import httpx2

from posttrain.core.config.endpoint import EndpointConfig
from posttrain.core.errors import Unanswered, UserError
from posttrain.core.types import Message, Reply, Sampling, TokenChoice

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
BREAK_S = 30.0
EXCERPT = 200
AGAIN = (408, 429)
MISCONFIGURED = {
    401: "Check the token in the variable that token_env names.",
    403: "Check the token in the variable that token_env names.",
    404: "Check the endpoint's url and model.",
}


class Passing(Exception):
    """A failure that another try may not meet. `wait_s` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Refused(Unanswered):
    """This request alone got no answer: it says nothing about the endpoint's health."""


class Spared(Unanswered):
    """Not asked, or not asked again, because the breaker is open."""


class Breaker:
    """Open after `limit` unanswered requests in a row; lets one through every BREAK_S to see whether that is over."""

    def __init__(self, limit: int) -> None:
        self.limit, self.failures, self.until, self.last = limit, 0, 0.0, ""

    def require_closed(self) -> None:
        if self.failures < self.limit:
            return
        if (now := time.monotonic()) < self.until:
            raise Spared(f"given up after {self.failures} unanswered requests in a row; the last: {self.last}")
        self.until = now + BREAK_S

    def failed(self, reason: str) -> None:
        self.failures, self.last = self.failures + 1, reason
        if self.failures == self.limit:
            self.until = time.monotonic() + BREAK_S

    def answered(self) -> None:
        self.failures = 0


class Endpoint:
    """A core.protocols.ChatModel. Use it as `async with Endpoint(config) as model:`; it keeps its connections until then."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._token = token(config)
        self._slots = asyncio.Semaphore(config.concurrency)
        self._breaker = Breaker(config.give_up_after)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        limits = httpx2.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency)
        self._client = httpx2.AsyncClient(headers=headers, timeout=None, limits=limits)  # `_post` sets a deadline

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.aclose()

    async def reply(self, messages: Sequence[Message], sampling: Sampling, *, seed: int, top: int = 0) -> Reply:
        """One answer. Raises Unanswered after the last try, UserError where every request would fail the same way."""
        body = request(self.config.model, messages, sampling, seed, top)
        async with self._slots:
            try:
                found = await self._persist(body)
            except Spared:
                raise
            except Refused:
                self._breaker.answered()
                raise
            except Unanswered as error:
                self._breaker.failed(error.message)
                raise
            self._breaker.answered()
            return found

    async def _persist(self, body: dict[str, Any]) -> Reply:
        tries = 0
        while True:
            self._breaker.require_closed()
            try:
                return read_reply(await self._post(body))
            except Passing as error:
                tries += 1
                wait = backoff(tries) if error.wait_s is None else error.wait_s
                if tries > self.config.retries or wait > LONGEST_WAIT_S:
                    asked = f", which asks to wait {wait:.0f} s" if wait > LONGEST_WAIT_S else ""
                    raise Unanswered(self._hidden(f"{error}{asked} ({tries} {'try' if tries == 1 else 'tries'})")) from error
            except ValueError as error:
                raise Unanswered(self._hidden(f"no chat completion came back: {error}")) from error
            await asyncio.sleep(wait)

    async def _post(self, body: dict[str, Any]) -> bytes:
        """The body of a good response; everything else is raised as what it means."""
        try:
            async with asyncio.timeout(self.config.timeout_s):
                response = await self._client.post(f"{self.config.url.rstrip('/')}/chat/completions", json=body)
        except TimeoutError as error:
            raise Passing(f"no answer within {self.config.timeout_s:g} s") from error
        except httpx2.TransportError as error:
            raise Passing(f"the connection failed: {error.__class__.__name__} {error}".rstrip()) from error
        except httpx2.RequestError as error:
            raise ValueError(f"{error.__class__.__name__} {error}") from error
        status = response.status_code
        if status == 200:
            return response.content
        said = f"HTTP {status}: {excerpt(response.text)}"
        if status in AGAIN or status >= 500:
            raise Passing(said, retry_after(response.headers.get("retry-after")))
        if status in MISCONFIGURED:
            raise UserError(
                self._hidden(f"the endpoint {self.config.url} refuses every request with {said}."), fix=MISCONFIGURED[status]
            )
        raise Refused(self._hidden(f"the request was refused with {said}"))

    def _hidden(self, text: str) -> str:
        """A server may repeat what it was sent."""
        return text.replace(self._token, "***") if self._token else text


def token(config: EndpointConfig) -> str:
    if config.token_env is None:
        return ""
    found = os.environ.get(config.token_env, "").strip()
    if not found:
        raise UserError(
            f"token_env names the environment variable {config.token_env}, which is not set.", fix="Set it, or remove token_env."
        )
    if not (found.isascii() and found.isprintable()):
        raise UserError(f"the environment variable {config.token_env} holds no plain text.", fix="Set it to the token alone.")
    return found


def request(model: str, messages: Sequence[Message], sampling: Sampling, seed: int, top: int = 0) -> dict[str, Any]:
    """The body of a request. What leaves the distribution whole is not sent: not every server knows every field."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "seed": seed % 2**31,  # some servers keep it in 32 bits
    }
    if sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if top:
        body |= {"logprobs": True, "top_logprobs": top}
    return body


def read_reply(content: bytes) -> Reply:
    """The first choice of a response. ValueError where it is none, Refused where the model was not allowed to answer."""
    try:
        value = json.loads(content)
        choice = value["choices"][0]
        text, finish, message = choice["message"]["content"], choice["finish_reason"], choice["message"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(repr(excerpt(content[:EXCERPT].decode(errors="replace")))) from error
    if finish not in ("stop", "length"):
        raise Refused(f"the answer ended with finish_reason {finish!r}")
    if text is None and finish == "length":  # cut off while it still reasoned
        text = ""
    thinking = message.get("reasoning_content") or message.get("reasoning") or ""
    if not isinstance(text, str) or not isinstance(thinking, str):
        raise ValueError(f"content is of type {type(text).__name__}, not text")
    f"{text}{thinking}".encode()  # half a surrogate pair, which JSON allows and no file can hold, is a ValueError
    usage = value.get("usage")
    asked, written = (counted(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    return Reply(text, finish, written, thinking, asked, read_choices(choice.get("logprobs")))


def counted(usage: object, name: str) -> int | None:
    """A number of tokens, where the server says one that can be."""
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def read_choices(value: object) -> tuple[TokenChoice, ...]:
    """The answer's tokens and their alternatives. Empty where the server gives none, or gives them in another shape."""
    try:
        return tuple(
            TokenChoice(
                str(each["token"]),
                float(each["logprob"]),
                tuple((str(other["token"]), float(other["logprob"])) for other in each["top_logprobs"]),
            )
            for each in value["content"]  # type: ignore[index]
        )
    except (LookupError, TypeError, ValueError):
        return ()


def retry_after(header: str | None) -> float | None:
    """Seconds from now; the header is a number of seconds or a date. None where it is missing or nonsense."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def excerpt(text: str) -> str:
    """The start of what a server said, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:EXCERPT])


def backoff(tries: int) -> float:
    """Full jitter: anywhere up to a limit that doubles. So clients that failed together do not come back together."""
    return random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1)))
