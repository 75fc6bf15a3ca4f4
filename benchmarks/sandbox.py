"""Problems a second and leaks: HumanEval graded over and over in each backend.

python -m benchmarks.sandbox                    164 problems in each backend, problems a second
python -m benchmarks.sandbox --gradings 10000   as many in a row, then what was left behind (exit 1 if anything was)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from pathlib import Path

from posttrain.core.config import CodeGrader
from posttrain.data import builtin
from posttrain.graders import code_tests
from posttrain.sandbox.backends import SAFE, tried
from posttrain.sandbox.pool import Pool


def state() -> dict[str, object]:
    """What a leak would show in. Our own child processes, descriptors, shared memory, temporary files."""
    me = f"\nPPid:\t{os.getpid()}\n"
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "status").read_text()
        except OSError:
            continue
        if me in status or entry.stat().st_uid > 1_000_000_000:
            processes.append(entry.name)
    shared = sum(len(Path(f"/proc/sysvipc/{kind}").read_text().splitlines()) for kind in ("shm", "sem", "msg"))
    return {
        "processes": len(processes),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "shared memory": shared,
        "memory files": len(list(Path("/dev/shm").iterdir())),
    }


async def graded(pool: Pool, count: int) -> tuple[int, int]:
    """Every other solution is canonical, the rest return None. (passed, errors)."""
    tasks = builtin.tasks("human-eval", split="test", count=164)
    config = CodeGrader()

    async def one(at: int) -> tuple[bool, bool]:
        task = tasks[at // 2 % len(tasks)]
        wrong = f"```python\n{task.metadata['tests']['prompt']}    return None\n```"
        grade = await code_tests.grade(config, pool, task, wrong if at % 2 else str(task.metadata["gold"]))
        return grade.passed is (at % 2 == 0), grade.status != "scored"

    found = await asyncio.gather(*(one(at) for at in range(count)))
    return sum(right for right, _ in found), sum(error for _, error in found)


def measure(name: str, count: int) -> bool:
    """One backend; True if every verdict was right and nothing was left."""
    backend = tried(name)
    if backend.backend is None:
        print(f"{name}: {backend.why_not}")
        return True
    before = state()
    pool = Pool.of(backend.backend, packages=code_tests.installed())
    asyncio.run(graded(pool, 2 * pool.size))  # start the fork-servers
    began = time.perf_counter()
    right, errors = asyncio.run(graded(pool, count))
    took = time.perf_counter() - began
    pool.close()
    after = state()
    left = {kind: (before[kind], after[kind]) for kind in before if before[kind] != after[kind]}
    found = {"backend": name, "walls": backend.backend.description, "gradings": count, "right": right, "errors": errors}
    found |= {"seconds": round(took, 2), "a second": round(count / took, 1), "at a time": pool.size, "left": left}
    print(json.dumps(found))
    return right == count and not left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gradings", type=int, default=328)
    parser.add_argument("--backend", choices=SAFE)
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    held = [measure(name, given.gradings) for name in ([given.backend] if given.backend else SAFE)]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
