"""The fork-server: starts confined processes, ends them at their deadline, and leaves none behind.

One job at a time: one program, or a tester and a worker. It is handed descriptors and limits, never programs, tests or answers,
so there is nothing in its memory that a child could find. Whatever the programs started, however they detached it, becomes
its own child (PR_SET_CHILD_SUBREAPER), is killed and reaped before it replies. It ends when its owner closes the socket or dies.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from posttrain.sandbox.inside import bubblewrap, kernel, landlock, preload, root
from posttrain.sandbox.inside.confine import DEVICES, Walls
from posttrain.sandbox.inside.start import READY, begin, place

LOOK_S = 1.0
"""How often to look whether the owner still lives, beside the socket, which somebody else may have inherited."""
START_S = 60.0
"""For all walls of a job to stand; a sandbox that takes longer has failed, which says nothing about the program."""
SIGN_BYTES = 2000
MOST_HELD_UP = 4.0
"""How many times its own limit a program may be held up by a busy machine before its time is over all the same."""


class Server:
    """`setup` is made by posttrain/sandbox/supervisor.py."""

    def __init__(self, setup: Mapping[str, Any], control: socket.socket) -> None:
        self.setup, self.control, self.owner = setup, control, os.getppid()
        self.children_file = open_children()
        self.proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # it stays ours when the root goes
        self.warm = setup["backend"] == "embedded"
        own_root = self.warm and root.enter(setup["readable"], DEVICES)
        self.walls = Walls(
            own_root=own_root or setup["backend"] == "bubblewrap",
            own_threads=MANY_USERS or setup["backend"] == "bubblewrap",
            readable=setup["readable"],
            user=None,
            landlock=landlock.version() > 0,
        )

    def serve(self) -> None:
        facts = {"own_root": self.walls.own_root, "landlock": landlock.version(), "own_users": MANY_USERS}
        self.say(facts)
        while True:
            message, descriptors, _, _ = socket.recv_fds(self.control, 1 << 16, 64) if self.waited() else (b"", [], 0, None)
            if not message:
                return
            if message == b"stop":  # it crossed our reply: that job is over
                continue
            self.say(self.job(json.loads(message), descriptors))

    def waited(self) -> bool:
        """Until there is a message. False when the owner is gone."""
        while not readable_among([self.control.fileno()], LOOK_S):
            if os.getppid() != self.owner:
                return False
        return True

    def say(self, reply: Mapping[str, Any]) -> None:
        self.control.send(json.dumps(reply).encode())

    def job(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
        ended: dict[int, tuple[int, float]] = {}
        try:
            started = [self.start(each, slot, descriptors) for slot, each in enumerate(request["processes"])]
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        pids, signs = [pid for pid, _ in started], {sign: b"" for _, sign in started}
        late, wall_s = self.watch(pids, signs, request["wall_s"])
        self.end_all(pids, ended)
        for sign in signs:
            signs[sign] = signs[sign] or os.read(sign, SIGN_BYTES)
            os.close(sign)
        outcomes = [
            {"ready": signs[sign].decode(errors="replace"), "status": ended[pid][0], "cpu_s": ended[pid][1]}
            for pid, sign in started
        ]
        return {"processes": outcomes, "late": late, "wall_s": wall_s}

    def start(self, process: Mapping[str, Any], slot: int, descriptors: Sequence[int]) -> tuple[int, int]:
        """The process, and where it says that its walls stand."""
        sign, says = os.pipe()
        os.set_blocking(sign, False)
        chosen = [descriptors[at] for at in process["descriptors"]]
        chosen.insert(READY, says)
        pid = os.fork()
        if pid:
            os.close(says)
            return pid, sign
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            place(chosen)
            if self.setup["backend"] == "bubblewrap":
                bubblewrap.execute(self.setup, process["policy"], self.walls_of(slot))
            begin(process["policy"], None if self.setup["backend"] == "unsafe" else self.walls_of(slot))
        finally:
            os._exit(1)

    def walls_of(self, slot: int) -> Walls:
        user = user_for(slot, os.getpid()) if MANY_USERS else None
        return Walls(**{**vars(self.walls), "user": user})

    def watch(self, pids: Sequence[int], signs: dict[int, bytes], wall_s: float) -> tuple[bool, float]:
        """Wait for the first process. Its clock starts when all walls stand, and is put back by the time its job was ready to run
        while others had the processors: a busy machine must not make a program wrong. (its time was over, seconds it took);
        also returns when the owner says stop, or is gone."""
        handle, waiting = os.pidfd_open(pids[0]), dict.fromkeys(signs)
        began, deadline = time.monotonic(), time.monotonic() + START_S
        try:
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    if waiting or (extended := began + wall_s + min(self.held_up(pids), MOST_HELD_UP * wall_s)) <= time.monotonic():
                        return not waiting, time.monotonic() - began
                    deadline = extended
                    continue
                ready = readable_among([handle, self.control.fileno(), *waiting], min(left, LOOK_S))
                for sign in [each for each in ready if each in waiting]:
                    signs[sign] = os.read(sign, SIGN_BYTES)
                    del waiting[sign]
                    if not waiting:
                        began, deadline = time.monotonic(), time.monotonic() + wall_s
                if handle in ready:
                    return False, time.monotonic() - began
                if self.control.fileno() in ready:
                    self.control.recv(1 << 16)  # "stop", or nothing where the owner closed the socket
                    return False, time.monotonic() - began
                if os.getppid() != self.owner:
                    return False, time.monotonic() - began
        finally:
            os.close(handle)

    def held_up(self, pids: Sequence[int]) -> float:
        """Seconds that these processes and those below them waited for a processor (the second number of /proc/PID/schedstat)."""
        total, look = 0.0, list(pids)
        while look:
            pid = look.pop()
            total += int((self.read_proc(f"{pid}/schedstat").split() or [b"0", b"0"])[1]) / 1e9
            look += [int(child) for child in self.read_proc(f"{pid}/task/{pid}/children").split()]
        return total

    def read_proc(self, path: str) -> bytes:
        """Empty where the process is gone, or the kernel keeps no such file."""
        try:
            file = os.open(path, os.O_RDONLY, dir_fd=self.proc)
        except OSError:
            return b""
        try:
            return os.read(file, 1 << 12)
        except OSError:
            return b""
        finally:
            os.close(file)

    def end_all(self, pids: Sequence[int], ended: dict[int, tuple[int, float]]) -> None:
        """Kill and reap until there is no child left, adopted ones included."""
        ended.update(reaped(block=False))
        while True:
            for pid in {*self.children(), *(pid for pid in pids if pid not in ended)}:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            found = dict(reaped(block=True))
            if not found:
                return
            ended.update(found)

    def children(self) -> list[int]:
        if self.children_file is None:
            return [int(entry.parent.name) for entry in Path("/proc").glob("[0-9]*/stat") if parent_of(entry) == os.getpid()]
        return [int(pid) for pid in os.pread(self.children_file, 1 << 16, 0).split()]


def readable_among(descriptors: Iterable[int], seconds: float) -> set[int]:
    """Those that can be read, or whose other end is closed, after at most so long. poll, because select ends at descriptor 1024."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}


def open_children() -> int | None:
    """The kernel's list of our children, opened while there is a /proc. None where the kernel does not keep one."""
    try:
        return os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def parent_of(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def reaped(*, block: bool) -> list[tuple[int, tuple[int, float]]]:
    """Children that have ended: (pid, (wait status, CPU seconds)). With `block`, wait for one if there are children at all."""
    found: list[tuple[int, tuple[int, float]]] = []
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0 if block and not found else os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, (status, usage.ru_utime + usage.ru_stime)))


def highest_user() -> int:
    """One above the largest user id that exists in this user namespace. Read at import, while there is a /proc."""
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return min(max(int(start) + int(length) for start, _, length in ranges), 2_000_000_000)


HIGHEST_USER = highest_user()
MANY_USERS = os.getuid() == 0 and HIGHEST_USER > 1000
"""We are root over other users, and give each process one of its own. Not so in a container that has root alone."""


def user_for(slot: int, server: int) -> int:
    """A user that nobody is, another one for each process that may run at one time: from the upper half of the ids there are."""
    return HIGHEST_USER - 2 - (server * 8 + slot) % (HIGHEST_USER // 2)


def main() -> None:
    """Started by posttrain/sandbox/supervisor.py with the setup as JSON; `control` in it is the socket's descriptor."""
    setup = json.loads(sys.argv[1])
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who then closes the socket
    kernel.control(kernel.PR_SET_CHILD_SUBREAPER, 1)
    control = socket.socket(fileno=setup["control"])
    preload.load()
    server = Server(setup, control)
    gc.freeze()
    server.serve()
    os._exit(0)
