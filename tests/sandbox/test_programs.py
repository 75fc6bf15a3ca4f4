"""One program: what each way to end looks like, and that honest programs may do honest things."""

from __future__ import annotations

import pytest

from posttrain.core.errors import UserError
from posttrain.sandbox import Limits, Outcome
from posttrain.sandbox.pool import Pool
from posttrain.sandbox.programs import run_program

LIMITS = Limits(cpu_s=1, wall_s=1.0, memory_bytes=256 << 20, output_bytes=10_000)


def ran(pool: Pool, source: str, **more: object) -> Outcome:
    return pool.submit(lambda supervisor: run_program(supervisor, source, **{"limits": LIMITS, **more})).result()  # type: ignore[arg-type]


def test_it_reads_and_writes_and_ends(pool: Pool) -> None:
    found = ran(pool, "import sys\nprint(input().upper())\nprint('ü', file=sys.stderr)", stdin="grüße\n")
    assert (found.status, found.exit, found.stdout, found.stderr) == ("ok", 0, "GRÜSSE\n", "ü\n")
    assert found.backend == (pool.backend.name if pool.backend else "") and 0 < found.wall_s < 60


@pytest.mark.parametrize(
    ("source", "status", "code", "says"),
    [
        ("raise SystemExit(3)", "error", 3, ""),
        ("import sys; sys.exit('no')", "error", 1, "no\n"),
        ("def f():\n    return 1 / 0\nf()", "error", 1, "ZeroDivisionError"),
        ("def f(:", "error", 1, "SyntaxError"),
        ("x = [0] * (1 << 30)", "memory", 1, "MemoryError"),
        ("while True: pass", "timeout", None, ""),
        ("import os; os.abort()", "killed", None, ""),
        ("import os; os._exit(0)", "ok", 0, ""),
        ("print('x' * 20_000)", "killed", None, ""),
        ("print('x' * 9_999)", "ok", 0, ""),
        ("x = '" + "a" * (5 << 20) + "'", "refused", None, ""),
    ],
)
def test_each_way_to_end(pool: Pool, source: str, status: str, code: int | None, says: str) -> None:
    found = ran(pool, source)
    assert (found.status, found.exit) == (status, code) and says in found.stderr
    assert found.status == "ok" or found.explanation or code == 3


def test_a_traceback_is_the_programs_own(pool: Pool) -> None:
    trace = ran(pool, "def f():\n    return 1 / 0\n\nf()").stderr
    assert trace.startswith("Traceback") and 'File "program.py", line 2, in f' in trace and "return 1 / 0" in trace
    assert "posttrain" not in trace


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nasync def f():\n    await asyncio.gather(*(asyncio.sleep(0) for _ in range(9)))\nasyncio.run(f())",
        "import threading\nthreads = [threading.Thread(target=sum, args=([1],)) for _ in range(8)]\n[t.start() for t in threads]; [t.join() for t in threads]",
        "import concurrent.futures as c\nwith c.ThreadPoolExecutor(4) as e: assert sum(e.map(int, '1234')) == 10",
        "import random, hashlib, decimal, json, re, heapq, zoneinfo, sqlite3, uuid, secrets\nuuid.uuid4(); hashlib.sha256(b'x').hexdigest()",
        "import os\nassert os.read(0, 1) == b'' and os.getpid() > 0 and open('/dev/null').read() == '' and len(os.urandom(4)) == 4",
        "import signal\nhits = []\nsignal.signal(signal.SIGALRM, lambda *a: hits.append(1)); signal.setitimer(signal.ITIMER_REAL, .01); signal.pause(); assert hits",
        "import sys\nassert __name__ == '__main__' and sys.argv == ['program.py']\nclass A: pass\nimport pickle; pickle.loads(pickle.dumps(A()))",
        "import atexit\natexit.register(print, 'bye')",
    ],
)
def test_honest_programs_may_do_honest_things(pool: Pool, source: str) -> None:
    found = ran(pool, source, limits=Limits())
    assert found.status == "ok", found


def test_a_folder_of_its_own(pool: Pool) -> None:
    source = """
import os, shutil, tempfile
assert open('data/in.txt').read() == 'hello'
open('out.txt', 'w').write('x'); shutil.copy('out.txt', 'copy.txt'); os.rename('copy.txt', 'data/y'); os.chmod('out.txt', 0o600)
with tempfile.TemporaryDirectory() as place: open(place + '/a', 'w').close()
print(sorted(os.listdir('.')))"""
    assert ran(pool, source, files={"data/in.txt": "hello"}).stdout == "['data', 'out.txt']\n"
    assert ran(pool, "import os; print(os.listdir('.'))", scratch=True).stdout == "[]\n", "nothing of the program before"


def test_without_one_it_can_write_nowhere(pool: Pool) -> None:
    assert ran(pool, "open('x', 'w')").status == "error"


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "", ".", "a\0b"])
def test_files_stay_in_the_folder(pool: Pool, name: str) -> None:
    with pytest.raises(UserError):
        ran(pool, "1", files={name: "x"})


def test_runs_do_not_depend_on_the_hash_of_strings(pool: Pool) -> None:
    assert len({ran(pool, "print(list({'a', 'b', 'c', 'd', 'e', 'f'}))").stdout for _ in range(3)}) == 1


def test_they_do_differ_in_what_is_random(pool: Pool) -> None:
    assert len({ran(pool, "import random; print(random.random())").stdout for _ in range(3)}) == 3


@pytest.mark.parametrize("wrong", [{"cpu_s": 0}, {"wall_s": -1}, {"wall_s": float("nan")}, {"threads": 0}])
def test_limits_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]
