"""Run by test_blind, also as another user: the programs nobody of the house wrote, in one backend; prints what became of them.

python blind_driver.py BACKEND all|escapes       (posttrain on PYTHONPATH; standard library only)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import socket
import sys
import tempfile
import time
from pathlib import Path

from blind import ESCAPES
from blind_load import GREEDY, HONEST, SURVIVORS
from leaks import state

from posttrain.sandbox import Limits
from posttrain.sandbox.backends import choose
from posttrain.sandbox.pool import Pool
from posttrain.sandbox.programs import run_program

SHORT = Limits(cpu_s=1, wall_s=0.15, memory_bytes=256 << 20, output_bytes=200_000, scratch_bytes=8 << 20)
PATIENT = dataclasses.replace(SHORT, cpu_s=5, wall_s=5)  # an honest program must not fail because the machine is busy


def main(backend: str, which: str) -> None:
    chosen = choose(backend)
    token = os.environ["BLIND_TOKEN"]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="blind-")))
        folder.chmod(0o777)
        secret = folder / "secret"
        secret.write_text(token)
        secret.chmod(0o666)
        tcp, both = (stack.enter_context(socket.socket(each)) for each in (socket.AF_INET, socket.AF_UNIX))
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        name = f"blind-{secrets.token_hex(8)}"
        tcp.bind(("127.0.0.1", 0))
        both.bind(f"\0{name}")
        datagrams.bind(f"\0{name}")
        for each in (tcp, both):
            each.listen()
        told = {"@SECRET@": str(secret), "@PORT@": str(tcp.getsockname()[1]), "@UNIX@": name, "@PID@": str(os.getpid())}
        wanted = {name: (source, PATIENT) for name, source in ESCAPES.items()}
        if which == "all":
            wanted |= {name: (source, SHORT) for name, source in (GREEDY | SURVIVORS).items()}
            wanted |= {name: (source, PATIENT) for name, (source, _) in HONEST.items()}
        before = state()
        pool = Pool.of(chosen, size=2)
        asked = {}
        for name_, (source, limits) in wanted.items():
            for mark, value in told.items():
                source = source.replace(mark, value)
            asked[name_] = pool.submit(
                lambda supervisor, source=source, limits=limits: run_program(
                    supervisor, source, limits=limits, scratch=chosen.folders
                )
            )
        found = {}
        for name_, future in asked.items():
            try:
                found[name_] = dataclasses.asdict(future.result())
            except Exception as problem:
                found[name_] = {"status": "failed", "stdout": "", "stderr": "", "explanation": repr(problem)}
        pool.close()
        time.sleep(0.1)
        after = state()
        intact = {"secret": secret.read_text() == token, "mode": oct(secret.stat().st_mode), "entries": sorted(os.listdir(folder))}
        contacts = [each.getsockname() for each in (tcp, both, datagrams) if contacted(each)]
    print(json.dumps({"found": found, "before": before, "after": after, "intact": intact, "contacts": [str(c) for c in contacts]}))


def contacted(ours: socket.socket) -> bool:
    ours.setblocking(False)
    try:
        ours.recv(1) if ours.type == socket.SOCK_DGRAM else ours.accept()
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
