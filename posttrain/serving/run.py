"""The process that listens: binds, says where, serves until Ctrl-C, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable

import uvicorn

from posttrain import chat
from posttrain.core.errors import UserError
from posttrain.generation.native import NativeEngine
from posttrain.models.load import load
from posttrain.models.view import InferenceView
from posttrain.serving.access import is_loopback
from posttrain.serving.app import Served, application

GRACE_S = 5
"""Seconds that responses under way are given once the server is asked to end."""


def require_safe(host: str, token: str) -> None:
    """Anyone who reaches another address than loopback can use the model."""
    if not is_loopback(host) and not token:
        raise UserError(
            f"--host {host} can be reached from other machines, and there is no token.",
            fix="Name an environment variable that holds one with --token-env, or leave --host out.",
        )


def token_of(variable: str | None) -> str:
    if variable is None:
        return ""
    found = os.environ.get(variable, "").strip()
    if not (found and found.isascii() and found.isprintable()):
        raise UserError(f"--token-env: the environment variable {variable} is not set to a plain text.", fix="Set it to the token.")
    return found


def bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}:{port}: {error}.", fix="Choose another --port (0 takes a free one).") from error


def serve(reference: str, name: str, *, host: str, port: int, token: str, say: Callable[[str], None]) -> None:
    """Serve a model until the process is told to end. Raises UserError for what cannot work before the model is loaded."""
    require_safe(host, token)
    listener = bind(host, port)
    try:
        loaded = load(reference)
        renderer = chat.renderer(loaded.tokenizer)
        engine = NativeEngine(InferenceView(loaded.model), renderer.decode, renderer.stop_ids)
        port = listener.getsockname()[1]
        app = application(Served(name, engine, renderer, int(time.time())), host=host, port=port, token=token)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S, lifespan="off", server_header=False
        )
        server = uvicorn.Server(config)
        shown = f"[{host}]" if ":" in host else host
        say(f"serving {name} at http://{shown}:{port}/v1 (Ctrl-C ends)")
        asyncio.run(server.serve(sockets=[listener]))
    finally:
        listener.close()
