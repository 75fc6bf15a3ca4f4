"""The trusted end of one fork-server: starts it, hands it jobs, reads what programs write, and closes it.

Programs, tests and standard input go through sealed files in memory that only the process concerned reads; output comes back
through pipes that are read up to a limit. A job that the fork-server does not answer in time ends the fork-server.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posttrain.core.errors import SandboxFailed

PLACE = str(Path(__file__).resolve().parent)
CODE = "/code"
"""Where the modules of `inside` lie in a bubblewrap."""
LAUNCH = (
    "import sys, types\n"
    "for name, path in (('posttrain', []), ('posttrain.sandbox', [{place!r}])):\n"
    "    sys.modules[name] = types.ModuleType(name)\n"
    "    sys.modules[name].__path__ = path\n"
    "from posttrain.sandbox.inside.{module} import main\n"
    "main({argument})\n"
)
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "HOME": "/own-folder",
    "TMPDIR": "/own-folder",
    "PYTHONHASHSEED": "0",  # a program's verdict should not depend on the order of a set
    "PYTHONDONTWRITEBYTECODE": "",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}
GRACE_S = 30.0
MOST_HELD_UP = 4.0  # as inside/server.py
START_S = 60.0  # as long as the fork-server gives a sandbox to stand


@dataclass(frozen=True)
class Process:
    """One process of a job. `wires` are the descriptors of its role, from 5 on."""

    policy: Mapping[str, Any]
    payload: Mapping[str, Any]
    stdin: bytes = b""
    output: int = 0
    """Bytes of standard output and of standard error to keep; 0 throws both away."""
    wires: tuple[int, ...] = ()


@dataclass
class Ended:
    """How a process ended: `status` is what waitpid gave. `ready` is "ready", or "!" and why its walls do not stand."""

    ready: str
    stdout: bytes
    stderr: bytes
    status: int
    cpu_s: float


@dataclass
class Job:
    processes: list[Ended]
    late: bool
    overflow: bool
    wall_s: float
    read: bytes = b""
    """What came through the descriptor that the job was asked to read."""


@dataclass
class Stream:
    """What has been read of a pipe, up to a limit, and how much there was."""

    limit: int
    data: bytearray = field(default_factory=bytearray)
    seen: int = 0


def python() -> list[str]:
    """The interpreter below any virtual environment, started without site packages and without the folder it is called in."""
    return [os.path.realpath(getattr(sys, "_base_executable", sys.executable)), "-S", "-s", "-P"]


def readable() -> tuple[str, ...]:
    """The files that a program may read: the interpreter, its standard library, and the libraries of the system."""
    paths = [
        python()[0],
        *(
            sysconfig.get_path(name, vars={"base": sys.base_prefix, "platbase": sys.base_prefix})
            for name in ("stdlib", "platstdlib")
        ),
        str(sysconfig.get_config_var("LIBDIR")),
        *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"),
    ]
    return tuple(dict.fromkeys(path for path in paths if Path(path).exists()))


class Supervisor:
    """One fork-server, started at the first job and again after one it did not survive. For one thread at a time."""

    def __init__(self, backend: str, bwrap: str = "", packages: Sequence[str] = ()) -> None:
        self.backend, self.bwrap, self.packages = backend, bwrap, tuple(packages)
        self.process: subprocess.Popen[bytes] | None = None
        self.socket: socket.socket | None = None
        self.facts: dict[str, Any] = {}

    def start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        setup = {
            "backend": self.backend,
            "bwrap": self.bwrap,
            "readable": [*readable(), *self.packages],
            "place": PLACE,
            "code": CODE,
            "control": theirs.fileno(),
            "inside": [*python(), "-c", LAUNCH.format(place=CODE, module="start", argument="sys.argv[1]")],
        }
        command = [*python(), "-c", LAUNCH.format(place=PLACE, module="server", argument=""), json.dumps(setup)]
        with theirs, tempfile.TemporaryFile() as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=ENVIRONMENT,
                cwd="/",
                pass_fds=(theirs.fileno(),),
            )
            theirs.close()
            self.socket = ours
            ours.settimeout(START_S)
            try:
                self.facts = json.loads(ours.recv(1 << 16) or b"{}")
            except TimeoutError:
                self.facts = {}
            if not self.facts:
                log.seek(0)
                said = log.read()[-500:].decode(errors="replace").strip().splitlines()[-1:]
                self.close(kill=True)
                raise SandboxFailed(f"the sandbox's fork-server did not start: {said[0] if said else 'it said nothing'}")

    def run(self, processes: Sequence[Process], wall_s: float, *, read: int | None = None, read_limit: int = 0) -> Job:
        """Run the processes of one job until the first has ended or its time is over; then none is left. `read` is a descriptor
        to read from meanwhile. Raises SandboxFailed if the fork-server does not answer."""
        if self.process is None or self.process.poll() is not None:
            self.close(kill=True)
            self.start()
        assert self.socket is not None
        with ExitStack() as stack:
            streams: dict[int, Stream] = {}
            sent: list[int] = []
            given: list[int] = [wire for process in processes for wire in process.wires]
            asked, outputs = [], []
            for process in processes:
                descriptors, ours = wired(process, streams, stack, given)
                asked.append({"policy": dict(process.policy), "descriptors": list(range(len(sent), len(sent) + len(descriptors)))})
                sent += descriptors
                outputs.append(ours)
            if read is not None:
                streams[read] = Stream(read_limit)
            request = json.dumps({"processes": asked, "wall_s": wall_s}).encode()
            try:
                socket.send_fds(self.socket, [request], sent)
            except OSError as problem:
                self.close(kill=True)
                raise SandboxFailed(f"the sandbox's fork-server is gone: {problem}") from None
            finally:
                for descriptor in given:
                    os.close(descriptor)
            reply, overflow = self.follow(streams, time.monotonic() + (1 + MOST_HELD_UP) * wall_s + START_S + GRACE_S)
            ended = [
                Ended(each["ready"], seen(streams, out), seen(streams, err), each["status"], each["cpu_s"])
                for (out, err), each in zip(outputs, reply["processes"], strict=True)
            ]
            return Job(ended, reply["late"], overflow, reply["wall_s"], seen(streams, read))

    def follow(self, streams: dict[int, Stream], deadline: float) -> tuple[dict[str, Any], bool]:
        """Read all streams until the fork-server replies, at which nobody is left to write; then what is still in the pipes."""
        assert self.socket is not None
        control, open_streams, overflow = self.socket.fileno(), dict(streams), False
        while True:
            ready = readable_among([control, *open_streams], deadline - time.monotonic())
            if not ready:
                self.close(kill=True)
                raise SandboxFailed("the sandbox's fork-server did not answer in time")
            for descriptor in ready - {control}:
                more, over = pull(descriptor, streams[descriptor])
                if not more:
                    del open_streams[descriptor]
                if over and not overflow:
                    overflow = True
                    self.socket.send(b"stop")
            if control in ready:
                message = self.socket.recv(1 << 16)
                if not message:
                    self.close(kill=True)
                    raise SandboxFailed("the sandbox's fork-server ended in the middle of a job")
                for descriptor in open_streams:
                    while pull(descriptor, streams[descriptor])[0]:
                        pass
                return json.loads(message), overflow

    def close(self, *, kill: bool = False) -> None:
        """End the fork-server, which first ends what it runs. Safe to call twice."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        process, self.process = self.process, None
        if process is None:
            return
        if kill:
            with suppress(subprocess.TimeoutExpired):
                process.wait(2.0)
            process.kill()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wired(process: Process, streams: dict[int, Stream], stack: ExitStack, given: list[int]) -> tuple[list[int], tuple[int, ...]]:
    """The descriptors of a process in order, and ours: stdout, stderr. What is to be closed once it is sent goes to `given`."""

    def pipe(limit: int) -> tuple[int, int]:
        ours, theirs = os.pipe()
        stack.callback(os.close, ours)
        os.set_blocking(ours, False)
        streams[ours] = Stream(limit)
        given.append(theirs)
        return ours, theirs

    given += [stdin := sealed(process.stdin), payload := sealed(json.dumps(process.payload).encode())]
    if process.output:
        (out, out_in), (err, err_in) = pipe(process.output), pipe(process.output)
    else:
        out = err = -1
        out_in = err_in = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        given.append(out_in)
    return [stdin, out_in, err_in, payload, *process.wires], (out, err)


def readable_among(descriptors: Iterable[int], seconds: float) -> set[int]:
    """Those that can be read, or whose other end is closed, after at most so long. poll, because select ends at descriptor 1024."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}


def seen(streams: Mapping[int, Stream], descriptor: int | None) -> bytes:
    return bytes(streams[descriptor].data) if descriptor is not None and descriptor in streams else b""


def sealed(data: bytes) -> int:
    """A file in memory that can only be read."""
    descriptor = os.memfd_create("posttrain", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def pull(descriptor: int, stream: Stream) -> tuple[bool, bool]:
    """Read what is there. (there may be more, it is more than the stream may hold); what is too much is thrown away."""
    try:
        piece = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return False, False
    stream.seen += len(piece)
    stream.data += piece[: max(0, stream.limit - len(stream.data))]
    return bool(piece), stream.seen > stream.limit
