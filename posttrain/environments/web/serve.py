"""One site on loopback at a random port, served from the running event loop: uvicorn without its signal handlers.

The port is bound before anything is served, so two episodes never share one. Ends with the episode; a connection that a visitor
left open does not hold it up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp


class Quiet(uvicorn.Server):
    """Leaves Ctrl-C and SIGTERM to the program it runs in, and ends at once instead of at the next tenth of a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended = asyncio.Event()

    async def main_loop(self) -> None:
        await self.ended.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Site:
    """A served application: `origin` is its address."""

    def __init__(self, app: ASGIApp) -> None:
        self.socket = socket.socket(
            socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )  # with the protocol said, asyncio sends at once
        self.socket.bind(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        settings = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False)
        self.server = Quiet(settings)
        self.serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.serving = asyncio.create_task(self.server.serve(sockets=[self.socket]))
        while not self.server.started:
            if self.serving.done():
                await self.serving
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        self.server.force_exit = True
        self.server.ended.set()
        if self.serving is not None:
            await self.serving
        self.socket.close()
