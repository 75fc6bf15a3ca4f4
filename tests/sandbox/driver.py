"""Run by the tests, also as another user: all hostile programs in one backend; prints what became of them and what was left.

python driver.py BACKEND          (posttrain on PYTHONPATH; standard library only)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hostile import PROGRAMS, filled
from leaks import state

from posttrain.sandbox import Limits
from posttrain.sandbox.backends import choose
from posttrain.sandbox.pool import Pool
from posttrain.sandbox.programs import run_program

LIMITS = Limits(cpu_s=1, wall_s=0.5, memory_bytes=256 << 20, output_bytes=200_000, scratch_bytes=8 << 20)


def main(backend: str) -> None:
    chosen = choose(backend)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        folder.chmod(0o777)
        secret = folder / "secret"
        secret.write_text("the secret")
        secret.chmod(0o666)
        victim = stack.enter_context(subprocess.Popen(["sleep", "600"], start_new_session=True))
        stack.callback(victim.kill)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        name = f"\0hostile-{secrets.token_hex(8)}"
        abstract.bind(name)
        abstract.listen()
        outside = {
            "secret": str(secret),
            "folder": str(folder),
            "victim": victim.pid,
            "port": listener.getsockname()[1],
            "abstract": name,
        }
        before = state()
        pool = Pool.of(chosen, size=2)
        sources = {each.name: filled(each.source, **outside) for each in PROGRAMS}
        asked = {
            name: pool.submit(
                lambda supervisor, source=source: run_program(supervisor, source, limits=LIMITS, scratch=chosen.folders)
            )
            for name, source in sources.items()
        }
        found = {}
        for name_, future in asked.items():
            try:
                found[name_] = dataclasses.asdict(future.result())
            except Exception as problem:
                found[name_] = {"status": "failed", "stdout": "", "explanation": repr(problem)}
        pool.close()
        time.sleep(0.1)
        after = state()
        intact = {
            "secret": secret.read_text(),
            "mode": oct(secret.stat().st_mode),
            "victim": victim.poll(),
            "entries": sorted(os.listdir(folder)),
        }
        for waiting in (listener, abstract):
            waiting.setblocking(False)
            try:
                waiting.accept()
                intact["connected"] = True
            except BlockingIOError:
                pass
    print(json.dumps({"found": found, "before": before, "after": after, "intact": intact, "description": chosen.description}))


if __name__ == "__main__":
    main(sys.argv[1])
