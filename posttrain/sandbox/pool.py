"""A few fork-servers with one queue, so that a thousand gradings in flight use no more than that.

A job's clock starts when it begins, not while it waits. One thread owns each fork-server, so jobs can be asked for from any event
loop and from none. A sandbox that broke is replaced and the job tried once more; then SandboxFailed is its result.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from posttrain.core.errors import SandboxFailed
from posttrain.sandbox.backends import Backend
from posttrain.sandbox.supervisor import Supervisor

Result = TypeVar("Result")
Work = Callable[[Supervisor], Any]
Item = tuple[Future[Any], Work] | None


class Pool:
    """Threads and fork-servers start when a job needs them. Close it, or let it be collected."""

    def __init__(self, make: Callable[[], Supervisor], *, size: int | None = None) -> None:
        self.make = make
        self.size = size or max(1, min(8, os.cpu_count() or 1))
        self.jobs: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.pending: set[Future[Any]] = set()
        self.lock = threading.Lock()
        self.closed = False
        self.backend: Backend | None = None
        weakref.finalize(self, end, self.threads, self.jobs)

    @classmethod
    def of(cls, backend: Backend, *, packages: tuple[str, ...] = (), size: int | None = None) -> Pool:
        """A pool of one backend. `packages` are folders that its programs may be allowed to import from."""
        pool = cls(partial(backend.supervisor, packages), size=size)
        pool.backend = backend
        return pool

    def submit(self, work: Callable[[Supervisor], Result]) -> Future[Result]:
        future: Future[Result] = Future()
        with self.lock:
            if self.closed:
                raise RuntimeError("the sandbox pool is closed")
            self.pending.add(future)
            if len(self.pending) > len(self.threads) and len(self.threads) < self.size:
                thread = threading.Thread(target=serve, args=(self.make, self.jobs), daemon=True, name="sandbox")
                self.threads.append(thread)
                thread.start()
            self.jobs.put((future, work))
        future.add_done_callback(self.pending.discard)
        return future

    async def ask(self, work: Callable[[Supervisor], Result]) -> Result:
        return await asyncio.wrap_future(self.submit(work))

    def close(self) -> None:
        """Drop what waits, let what runs come to its end (its clock sees to that), leave no process behind."""
        with self.lock:
            self.closed = True
        for future in list(self.pending):
            future.cancel()
        end(self.threads, self.jobs)
        for thread in self.threads:
            thread.join()


def end(threads: list[threading.Thread], jobs: queue.SimpleQueue[Item]) -> None:
    for _ in threads:
        jobs.put(None)


def serve(make: Callable[[], Supervisor], jobs: queue.SimpleQueue[Item]) -> None:
    supervisor = make()
    try:
        while (item := jobs.get()) is not None:
            future, work = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(twice(work, supervisor))
            except Exception as problem:  # carried to whoever waits for this job
                future.set_exception(problem)
            del item, future, work
    finally:
        supervisor.close()


def twice(work: Work, supervisor: Supervisor) -> Any:
    try:
        return work(supervisor)
    except SandboxFailed:
        supervisor.close(kill=True)
        return work(supervisor)
