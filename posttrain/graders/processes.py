"""Processes that may hang, crash or be killed, and the small pool that always gets an answer from them.

A check is sent to a child process as one JSON line; its clock starts when the child begins it, not while it waits in the
queue. A child that is late is killed with its whole process group and replaced, so are children that died. Whatever
goes wrong becomes a CheckFailed with a sentence that says what happened.

One daemon thread owns each child and waits for it, so checks can be asked for from any event loop, and from none.
A grandchild that starts a session of its own escapes the kill: graders are the user's own code, model-written code
belongs in the sandbox.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

START_LIMIT_S = 120.0  # importing a user's file may import torch on a busy machine
LARGEST_REPLY = 1 << 20
FAILED_STARTS = 3

_LAUNCH = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from posttrain.graders.child import main; main()"

Handler = tuple[str, str, Sequence[Any]]
"""Module, function and arguments; in the child, function(*arguments) gives handler(request) -> reply."""


class CheckFailed(Exception):
    """The check gave no verdict: its process crashed, hung, raised, or could not start."""


class Died(CheckFailed):
    """The process ended by itself or was killed by somebody else."""


class StartFailed(CheckFailed):
    """The process never became ready."""


class Worker:
    """One child process, started at the first check and again after each that it did not survive."""

    def __init__(self, handler: Handler, timeout_s: float, start_limit_s: float) -> None:
        self.handler, self.timeout_s, self.start_limit_s = handler, timeout_s, start_limit_s
        self.process: subprocess.Popen[bytes] | None = None
        self.log: Any = None
        self.unread = b""
        self.count = 0
        self.closed = False

    def check(self, body: Any) -> Any:
        self.count += 1
        request = json.dumps({"id": self.count, "body": body}).encode() + b"\n"
        try:
            try:
                self.begin(request)
            except Died:  # before it began, so this check is not to blame: once more with a new process
                self.begin(request)
            reply = self.exchange(b"", self.timeout_s)
        except TimeoutError:
            self.kill()
            raise CheckFailed(f"no verdict after {self.timeout_s:g} s; its process was killed") from None
        if reply.get("id") != self.count:
            self.kill()
            raise CheckFailed("the grader's process answered another question; it was killed")
        if "raised" in reply:
            raise CheckFailed(f"raised {reply['raised']}")
        return reply["reply"]

    def begin(self, request: bytes) -> None:
        """Hand the request over and wait until the process says that it began."""
        if self.process is None or self.process.poll() is not None:
            self.kill()
            self.start()
        self.log.truncate(0)
        if self.exchange(request, self.timeout_s) != {"begun": self.count}:
            self.kill()
            raise CheckFailed("the grader's process answered another question; it was killed")

    def start(self) -> None:
        self.log = tempfile.TemporaryFile("ab+")  # noqa: SIM115 (closed by kill)
        module, function, arguments = self.handler
        command = [
            sys.executable,
            "-c",
            _LAUNCH,
            json.dumps(sys.path),
            json.dumps([module, function, list(arguments)]),
            str(os.getpid()),
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, start_new_session=True, bufsize=0
        )
        for pipe in (self.process.stdin, self.process.stdout):
            os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr]
        self.unread = b""
        try:
            reply = self.exchange(b"", self.start_limit_s)
        except TimeoutError:
            self.kill()
            raise StartFailed(f"its process did not start within {self.start_limit_s:g} s") from None
        except Died as problem:
            raise StartFailed(f"could not be loaded: {problem}") from None
        if "ready" not in reply:
            self.kill()
            raise StartFailed(f"could not be loaded: {reply.get('failed', reply)}")

    def exchange(self, request: bytes, limit_s: float) -> dict[str, Any]:
        """Write all of `request` and read one line, within one deadline."""
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        end = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if request:
                selector.register(self.process.stdin, selectors.EVENT_WRITE)
            while b"\n" not in self.unread:
                if self.closed:
                    raise CheckFailed("the graders were closed before it answered")
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                ready = selector.select(min(left, 0.2))
                for key, _ in ready:
                    if key.fileobj is self.process.stdin:
                        with suppress(BrokenPipeError):  # the end of its output says what happened
                            request = request[os.write(key.fd, request) :]
                            if request:
                                continue
                        selector.unregister(self.process.stdin)
                    else:
                        self.read(key.fd)
        line, _, self.unread = self.unread.partition(b"\n")
        reply = json.loads(line)
        return reply if isinstance(reply, dict) else {}

    def read(self, descriptor: int) -> None:
        piece = os.read(descriptor, 1 << 16)
        self.unread += piece
        if not piece:
            raise Died(self.epitaph())
        if len(self.unread) > LARGEST_REPLY:
            self.kill()
            raise CheckFailed(f"replied with more than {LARGEST_REPLY} bytes; its process was killed")

    def epitaph(self) -> str:
        """How the process ended, with the last line it wrote to standard error."""
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        code = self.process.poll()
        self.log.seek(0)
        last = self.log.read()[-400:].decode(errors="replace").strip().splitlines()[-1:]
        how = (
            f"was ended by signal {signal.Signals(-code).name}"
            if code is not None and code < 0
            else f"ended with exit status {code}"
        )
        self.kill()
        return f"its process {how}" + (f": {last[0]}" if last else "")

    def kill(self) -> None:
        """Kill the process and its group, reap it, close what it held. Safe to call twice."""
        process, self.process = self.process, None
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                pipe.close()  # type: ignore[union-attr]
        if self.log is not None:
            self.log.close()
            self.log = None


class Pool:
    """A few workers with one queue. Threads and processes start when a check needs them."""

    def __init__(
        self, handler: Handler, *, timeout_s: float, size: int | None = None, start_limit_s: float = START_LIMIT_S
    ) -> None:
        self.handler, self.timeout_s, self.start_limit_s = handler, timeout_s, start_limit_s
        self.size = size or max(1, min(4, os.cpu_count() or 1))
        self.checks: queue.SimpleQueue[tuple[Future[Any], Any] | None] = queue.SimpleQueue()
        self.workers: list[Worker] = []
        self.threads: list[threading.Thread] = []
        self.pending: set[Future[Any]] = set()
        self.lock = threading.Lock()
        self.closed = False
        self.broken = Broken()
        weakref.finalize(self, end, self.workers, self.checks)

    def submit(self, body: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self.lock:
            if self.closed:
                raise RuntimeError("the graders are closed")
            self.pending.add(future)
            if len(self.pending) > len(self.workers) and len(self.workers) < self.size:
                worker = Worker(self.handler, self.timeout_s, self.start_limit_s)
                thread = threading.Thread(target=serve, args=(worker, self.checks, self.broken), daemon=True, name="grader")
                self.workers.append(worker)
                self.threads.append(thread)
                thread.start()
            self.checks.put((future, body))
        future.add_done_callback(self.pending.discard)
        return future

    async def ask(self, body: Any) -> Any:
        return await asyncio.wrap_future(self.submit(body))

    def close(self) -> None:
        """Drop what waits, kill what runs, leave no process behind."""
        with self.lock:
            self.closed = True
        for future in list(self.pending):
            future.cancel()
        end(self.workers, self.checks)
        for thread in self.threads:
            thread.join()


class Broken:
    """Remembers starts that failed one after the other, so that a grader that cannot load fails at once."""

    def __init__(self) -> None:
        self.failures = 0
        self.explanation = ""


def serve(worker: Worker, checks: queue.SimpleQueue[tuple[Future[Any], Any] | None], broken: Broken) -> None:
    """The thread of one worker: take a check, answer it, whatever happens."""
    while (item := checks.get()) is not None:
        future, body = item
        if not future.set_running_or_notify_cancel():
            continue
        if broken.failures >= FAILED_STARTS and worker.process is None:
            future.set_exception(CheckFailed(broken.explanation))
            continue
        try:
            reply = worker.check(body)
        except Exception as problem:  # the border: whatever broke in the process is this check's failure
            explanation = str(problem) if isinstance(problem, CheckFailed) else f"{type(problem).__name__}: {problem}"
            broken.failures, broken.explanation = (
                (broken.failures + 1, explanation) if isinstance(problem, StartFailed) else (0, "")
            )
            future.set_exception(CheckFailed(explanation))
        else:
            broken.failures = 0
            future.set_result(reply)
    worker.kill()


def end(workers: list[Worker], checks: queue.SimpleQueue[Any]) -> None:
    """Kill the processes that run; each thread then fails its check, finds the None and ends."""
    for worker in workers:
        worker.closed = True
        process = worker.process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        checks.put(None)
