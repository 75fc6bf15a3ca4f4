"""A real HTTP server on loopback that answers chat completions, and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler", dict[str, Any], int], None]
"""(handler, request body, number of this request from 0) -> writes a response, or does not."""


def completion(text: object, *, finish: object = "stop", tokens: object = 3, **message: object) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return {"object": "chat.completion", "choices": [choice], "usage": {"completion_tokens": tokens}}


@dataclass
class ChatServer:
    """`behaviour` may be changed between requests. `asked` and `headers` are what came in, in order."""

    behaviour: Behaviour
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


class Handler(BaseHTTPRequestHandler):
    state: ChatServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        state = self.state
        with state.lock:
            number = len(state.asked)
            state.asked.append({"path": self.path, **body})
            state.headers.append(dict(self.headers.items()))
            state.times.append(time.monotonic())
            state.under_way += 1
            state.most_under_way = max(state.most_under_way, state.under_way)
        try:
            state.behaviour(self, body, number)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with state.lock:
                state.under_way -= 1

    def answer(self, value: object, status: int = 200, **headers: str) -> None:
        self.raw(json.dumps(value).encode(), status, **headers)

    def raw(self, content: bytes, status: int = 200, *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *arguments: object) -> None: ...


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[ChatServer]:
    state = ChatServer(behaviour)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def echo(handler: Handler, body: dict[str, Any], number: int) -> None:
    """Answers with what was asked, so that an answer says which request it belongs to."""
    handler.answer(completion(f"you said: {body['messages'][-1]['content']}"))


def first(failures: int, fail: Behaviour) -> Behaviour:
    """Misbehaves for the first so many requests, then answers."""

    def behave(handler: Handler, body: dict[str, Any], number: int) -> None:
        (fail if number < failures else echo)(handler, body, number)

    return behave


def status(code: int, **headers: str) -> Behaviour:
    return lambda handler, body, number: handler.answer({"error": {"message": "no"}}, code, **headers)


def hang(handler: Handler, body: dict[str, Any], number: int) -> None:
    time.sleep(1.0)
    handler.close_connection = True


def drip(handler: Handler, body: dict[str, Any], number: int) -> None:
    """A byte now and then: no pause is long, but the answer never ends."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(20):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)
    handler.close_connection = True


def half_close(handler: Handler, body: dict[str, Any], number: int) -> None:
    handler.raw(b'{"choices": [{"mess', length=5000)
    handler.hang_up()


def hang_up(handler: Handler, body: dict[str, Any], number: int) -> None:
    handler.hang_up()
