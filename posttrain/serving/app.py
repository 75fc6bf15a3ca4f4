"""The endpoint as an ASGI application: /v1/models and /v1/chat/completions over one engine.

Requests of several clients enter the engine between two of its steps and are written in one batch. A client that goes away takes
its request with it. The server and the engine share one event loop, so a response waits for the step that runs.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from posttrain.chat import ChatRenderer
from posttrain.core.errors import PosttrainError, UserError
from posttrain.core.types import Completion, TokenChoice
from posttrain.generation.chat_model import text_of, token_choices
from posttrain.generation.native import NativeEngine
from posttrain.generation.native.scheduler import Top
from posttrain.serving import responses
from posttrain.serving.access import refusal
from posttrain.serving.requests import BadRequest, ChatRequest, read_request
from posttrain.serving.stream import TextStream

LARGEST_BODY = 4 * 2**20
DEFAULT_TOKENS = 512
T = TypeVar("T")


class Gone(Exception):
    """The client hung up."""


@dataclass(frozen=True)
class Served:
    """One model and its name here."""

    name: str
    engine: NativeEngine
    renderer: ChatRenderer
    started: int


class Guarded:
    """Lets through what `access.refusal` does not refuse."""

    def __init__(self, inner: ASGIApp, *, host: str, port: int, token: str) -> None:
        self.inner, self.host, self.port, self.token = inner, host, port, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            found = refusal(Request(scope).headers, host=self.host, port=self.port, token=self.token)
            if found is not None:
                status, why = found
                response = JSONResponse(responses.error(why, status=status, code="refused"), status)
                await response(scope, receive, send)
                return
        await self.inner(scope, receive, send)


def application(served: Served, *, host: str, port: int, token: str) -> ASGIApp:
    async def models(request: Request) -> Response:
        entry = {"id": served.name, "object": "model", "created": served.started, "owned_by": "posttrain"}
        return JSONResponse({"object": "list", "data": [entry]})

    async def chat_completions(request: Request) -> Response:
        return await answer(served, request)

    routes = [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    ]
    inner = Starlette(routes=routes, exception_handlers={HTTPException: http_error, BadRequest: bad_request})
    return Guarded(inner, host=host, port=port, token=token)


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path[:80]}: {error.detail}; here are GET /v1/models and POST /v1/chat/completions"
    return JSONResponse(responses.error(text, status=error.status_code), error.status_code, headers=error.headers)


async def bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequest)
    return JSONResponse(responses.error(error.message, status=error.status, field=error.field, code=error.code), error.status)


async def answer(served: Served, request: Request) -> Response:
    asked = read_request(await body_of(request), model=served.name, default_tokens=DEFAULT_TOKENS)
    try:
        prompt = served.renderer.prompt(asked.messages)
        require_room(served.engine, prompt)
    except UserError as error:
        raise BadRequest(error.message, field="messages", code="context_length_exceeded") from error
    seed = secrets.randbits(31) if asked.seed is None else asked.seed
    identity, created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
    if asked.stream:
        events = streamed(served, asked, prompt, seed, identity, created)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    try:
        completions = await while_connected(request, together(served.engine, asked, prompt, seed))
    except Gone:
        return Response(status_code=499)
    except PosttrainError as error:
        status = 400 if isinstance(error, UserError) else 500
        return JSONResponse(responses.error(error.message, status=status), status)
    answers = [(served.renderer.parse(c.text), c, listed(c, asked, served)) for c in completions]
    return JSONResponse(responses.chat_completion(identity, created, served.name, answers, len(prompt)))


async def body_of(request: Request) -> bytes:
    """The whole body, refused once it is larger than any conversation."""
    content = b""
    try:
        async for piece in request.stream():
            content += piece
            if len(content) > LARGEST_BODY:
                raise BadRequest(f"the body is larger than {LARGEST_BODY} bytes", status=413)
    except ClientDisconnect:
        raise BadRequest("the body ended early") from None
    return content


def require_room(engine: NativeEngine, prompt: array[int]) -> None:
    if len(prompt) >= engine.context:
        raise UserError(f"the messages take {len(prompt)} tokens; the model's context is {engine.context}")


def listed(completion: Completion, asked: ChatRequest, served: Served) -> Sequence[TokenChoice] | None:
    if not asked.logprobs:
        return None
    if asked.top:
        return token_choices(completion, served.renderer.decode)
    pairs = zip(completion.tokens, completion.logprobs, strict=True)
    return [TokenChoice(text_of(token, served.renderer.decode), logprob) for token, logprob in pairs]


async def together(engine: NativeEngine, asked: ChatRequest, prompt: array[int], seed: int) -> list[Completion]:
    """All samples at once; they share the prompt. Where one fails or the client goes, none goes on."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(engine.generate(prompt, asked.sampling, seed=seed + index, top=asked.top))
            for index in range(asked.samples)
        ]
    return [task.result() for task in tasks]


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The work's result, unless the client hangs up first: then the work is cancelled and Gone is raised."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


Piece = tuple[int, int, float, Top] | tuple[int, Completion] | tuple[int, BaseException]


async def streamed(
    served: Served, asked: ChatRequest, prompt: array[int], seed: int, identity: str, created: int
) -> AsyncIterator[str]:
    """Server-sent events: a piece a token as far as its text is settled, then the end of each sample, then [DONE]."""
    queue: asyncio.Queue[Piece] = asyncio.Queue()
    decode = served.renderer.decode
    texts = [TextStream(decode, asked.sampling.stop) for _ in range(asked.samples)]
    running = [asyncio.create_task(follow(served.engine, asked, prompt, seed, index, queue)) for index in range(asked.samples)]
    written = 0
    try:
        for index in range(asked.samples):
            yield event(responses.chunk(identity, created, served.name, index, {"role": "assistant", "content": ""}))
        left = asked.samples
        while left:
            piece = await queue.get()
            index = piece[0]
            if len(piece) == 4:
                _, token, logprob, top = piece
                written += 1
                text = texts[index].push(token)
                tokens = None
                if asked.logprobs:
                    alternatives = tuple((text_of(other, decode), value) for other, value in top)
                    tokens = [TokenChoice(text_of(token, decode), logprob, alternatives)]
                if text or tokens:
                    yield event(responses.chunk(identity, created, served.name, index, {"content": text}, tokens=tokens))
            elif isinstance(piece[1], Completion):
                left -= 1
                if rest := texts[index].finish(piece[1].text):
                    yield event(responses.chunk(identity, created, served.name, index, {"content": rest}))
                yield event(responses.chunk(identity, created, served.name, index, {}, finish=piece[1].finish))
            else:
                yield event(responses.error(str(piece[1]), status=500))
                return
        if asked.usage_in_stream:
            yield event(responses.last_chunk(identity, created, served.name, len(prompt), written))
        yield "data: [DONE]\n\n"
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def follow(
    engine: NativeEngine, asked: ChatRequest, prompt: array[int], seed: int, index: int, queue: asyncio.Queue[Piece]
) -> None:
    """One sample: each token into the queue as it is written, then its completion, or what went wrong."""

    def watch(token: int, logprob: float, top: Top) -> None:
        queue.put_nowait((index, token, logprob, top))

    try:
        done = await engine.generate(prompt, asked.sampling, seed=seed + index, top=asked.top, watch=watch)
    except PosttrainError as error:
        queue.put_nowait((index, error))
    else:
        queue.put_nowait((index, done))


def event(value: object) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
