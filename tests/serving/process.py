"""`posttrain serve` as a real process on a free port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Running:
    url: str
    process: subprocess.Popen[str]


@contextlib.contextmanager
def served(model: Path, *options: str, **environment: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "posttrain.cli", "serve", str(model), "--port", "0", *options]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    assert process.stdout is not None and process.stderr is not None
    try:
        said = process.stdout.readline()
        assert said.startswith("serving "), said + process.stderr.read()
        yield Running(said.split(" at ")[1].split()[0], process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=15)
        finally:
            process.kill()
            process.wait()
