"""Run one program from anywhere: a script, a notebook, a thousand coroutines. One pool a process, made at the first program."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Mapping
from concurrent.futures import Future

from posttrain.sandbox.backends import choose
from posttrain.sandbox.limits import Limits, Outcome
from posttrain.sandbox.pool import Pool
from posttrain.sandbox.programs import run_program

_pools: dict[str, Pool] = {}
_lock = threading.Lock()


def shared_pool(backend: str | None = None) -> Pool:
    """The pool of a backend; without a name, of the one that `choose` finds. Raises SandboxUnavailable."""
    chosen = choose(backend)
    with _lock:
        if chosen.name not in _pools:
            _pools[chosen.name] = Pool.of(chosen)
        return _pools[chosen.name]


@atexit.register
def close() -> None:
    """End all pools and their processes. What is run afterwards starts new ones."""
    with _lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.close()


def submit(
    source: str, stdin: str, limits: Limits, files: Mapping[str, str] | None, scratch: bool, backend: str | None
) -> Future[Outcome]:
    pool = shared_pool(backend)
    return pool.submit(lambda supervisor: run_program(supervisor, source, stdin=stdin, limits=limits, files=files, scratch=scratch))


def run(
    source: str,
    *,
    stdin: str = "",
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    files: Mapping[str, str] | None = None,
    scratch: bool = False,
    backend: str | None = None,
) -> Outcome:
    """Run a Python program to its end; what became of it.

    `files` (relative path to text) lie in its folder; with `files` or `scratch` it may write there, in memory and up to the limits.
    Raises SandboxUnavailable where nothing here can contain it, SandboxFailed if the sandbox broke twice.
    """
    return submit(source, stdin, limits, files, scratch, backend).result()


async def run_async(
    source: str,
    *,
    stdin: str = "",
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    files: Mapping[str, str] | None = None,
    scratch: bool = False,
    backend: str | None = None,
) -> Outcome:
    """`run` without blocking the event loop; as many at once as you like, few of which run at a time."""
    asked = await asyncio.to_thread(submit, source, stdin, limits, files, scratch, backend)  # the first one waits for canaries
    return await asyncio.wrap_future(asked)
