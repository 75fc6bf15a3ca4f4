"""Attacks on the sandbox's limits and on its cleaning up, written from its promise alone; and honest programs that must not be mistaken for attacks.

Source: the promise ("limits on CPU, wall, memory (also memfd, shared memory, tmpfs and inodes), processes, output, files; no zombie and no orphan after any
program"). Containment here: the call comes back within its limit and a little, nothing of the program lives on, its output is bounded, and a program that
needs what it may not have never ends as `ok`. A program that catches its own failure prints CAUGHT and may end as `ok`: it was held.
Fails when: the machine is so loaded that an honest program runs into the time limit.
"""

# Each must come to an end and be bounded. Those in GREEDY ask for more than any limit grants, and must not print GOT.
GREEDY = {
    "memory/bytes": "x = bytearray(1 << 36); print('GOT')",
    "memory/creep": "x = []\nfor i in range(6000): x.append(bytearray(b'x') * (1 << 20))\nprint('GOT')",
    "memory/anonymous_map": """
import mmap
keep = []
for i in range(96):
    m = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS); keep.append(m)
    for p in range(0, 64 << 20, 4096): m[p] = 1
print('GOT')""",
    "memory/memfd": """
import os
keep = []
for i in range(400):
    fd = os.memfd_create('x'); keep.append(fd)
    for _ in range(16): os.write(fd, bytes(1 << 20))
print('GOT')""",
    "memory/memfd_over_processes": """
import os, time
pids = []
for i in range(8):
    pid = os.fork()
    if pid == 0:
        fd = os.memfd_create('x')
        for _ in range(700): os.write(fd, bytes(1 << 20))
        os._exit(0)
    pids.append(pid)
if all(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) == 0 for p in pids): print('GOT')""",
    "memory/files_in_own_folder": """
import os
for i in range(6000):
    with open('f%d' % (i // 40), 'ab') as f: f.write(b'x' * (1 << 20))
print('GOT')""",
    "memory/shm_folder": "import os\nfor i in range(6000):\n    with open('/dev/shm/f%d' % (i // 40), 'ab') as f: f.write(b'x' * (1 << 20))\nprint('GOT')",
    "memory/tmp_folder": "import os\nfor i in range(6000):\n    with open('/tmp/f%d' % (i // 40), 'ab') as f: f.write(b'x' * (1 << 20))\nprint('GOT')",
    "memory/fallocate": "import os\nfor i in range(64):\n    fd = os.open('g%d' % i, os.O_RDWR | os.O_CREAT); os.posix_fallocate(fd, 0, 1 << 28)\nprint('GOT')",
    "memory/inodes": "import os\nfor i in range(3_000_000): os.close(os.open('i%d' % i, os.O_CREAT | os.O_WRONLY))\nprint('GOT')",
    "memory/deleted_files": "import os\nfor i in range(5000):\n    f = os.open('d', os.O_CREAT | os.O_RDWR); os.unlink('d'); os.write(f, b'x' * (1 << 20)); os.dup(f)\nprint('GOT')",
    "memory/pipes_full": """
import os, fcntl
for i in range(20000):
    r, w = os.pipe(); os.set_blocking(w, False)
    try: fcntl.fcntl(w, 1031, 1 << 20)
    except OSError: pass
    os.write(w, bytes(1 << 20))
print('GOT')""",
    "memory/socketpairs_full": """
import socket
keep = []
for i in range(20000):
    a, b = socket.socketpair(); a.setblocking(False); keep += [a, b]
    try:
        while True: a.send(bytes(1 << 16))
    except BlockingIOError: pass
print('GOT')""",
    "memory/descriptors_in_flight": """
import socket, os
while True:
    a, b = socket.socketpair()
    for i in range(60): socket.send_fds(a, [b'x'], [a.fileno(), b.fileno()] * 100)
    socket.send_fds(b, [b'y'], [a.fileno()]); os.close(a.detach()); os.close(b.detach())""",
    "memory/epoll_watches": """
import select
keep = []
for i in range(100000): keep.append(select.epoll())
print('GOT')""",
    "memory/big_number": "x = 7 ** (7 ** 9); print('GOT')",
    "memory/digits": "import sys; sys.set_int_max_str_digits(0); print(len(str(3 ** 20_000_000))); print('GOT')",
    "memory/string_format": "print(len('%*d' % (1 << 33, 1))); print('GOT')",
    "memory/exponential_copy": "a = ['x'] * 10\nfor _ in range(60): a = a + a\nprint('GOT')",
    "memory/page_tables": """
import mmap
for i in range(4000):
    m = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000); m2 = globals().setdefault('k', []); m2.append(m)
    for p in range(0, 1 << 30, 2 << 20): m[p] = 1
print('GOT')""",
    "files/sparse": "f = open('big', 'wb'); f.truncate(1 << 44); print('GOT')",
    "files/deep_folders": "import os\nfor i in range(200_000): os.mkdir('d'); os.chdir('d')\nprint('GOT')",
    "cpu/spin": "while True: pass",
    "cpu/spin_in_c": "sum(iter(int, 1))",
    "cpu/regular_expression": "import re; re.match(r'(a+)+$', 'a' * 64 + 'b'); print('GOT')",
    "cpu/sleep": "import time; time.sleep(1000); print('GOT')",
    "cpu/read_forever": "import sys, os\nr, w = os.pipe()\nos.read(r, 1); print('GOT')",
    "cpu/stopped": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP); print(1)\nwhile True: pass",
    "cpu/signals_ignored": """
import signal, time
for s in range(1, 65):
    try: signal.signal(s, lambda *a: None)
    except (OSError, ValueError): pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while True:
    try: time.sleep(100)
    except BaseException: pass""",
    "cpu/handler_raises_again": """
import signal
signal.signal(signal.SIGXCPU, lambda *a: None); signal.signal(signal.SIGTERM, lambda *a: None)
while True:
    try:
        while True: pass
    except BaseException: pass""",
    "cpu/children_share_it": """
import os
for _ in range(6):
    if os.fork() == 0: break
while True: pass""",
    "cpu/threads": "import threading\nfor _ in range(20): threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=False).start()\nprint(1)",
    "cpu/atexit_loop": "import atexit\n@atexit.register\ndef again():\n    while True: pass",
    "cpu/atexit_registers_itself": "import atexit\ndef again():\n    atexit.register(again)\natexit.register(again)\nimport threading, time\nt = threading.Thread(target=time.sleep, args=(500,)); t.start()",
    "cpu/excepthook": "import sys\ndef hook(*a):\n    while True: pass\nsys.excepthook = hook\n1 / 0",
    "cpu/vfork_like_wait": "import os, signal\npid = os.fork()\nif pid == 0:\n    signal.pause()\nos.waitpid(pid, 0); print('GOT')",
    "cpu/flush_blocks": "import sys, os\nos.set_blocking(1, True)\nwhile True: os.write(1, b'x' * 65536)",
    "cpu/stderr_flood": "import os\nwhile True: os.write(2, b'y' * 65536)",
    "cpu/flood_from_children": "import os\nfor _ in range(3): os.fork()\nwhile True: os.write(1, b'z' * 4096)",
    "storm/processes": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "storm/threads": "import threading, time\nn = 0\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(999,)).start(); n += 1\n    except RuntimeError: break\nprint('CAUGHT', n)",
}

# May end in any way, but nothing of theirs may live on, and the reader may not hang on a pipe that somebody still holds.
SURVIVORS = {
    "live/daemon": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(1)
    os._exit(0)""",
    "live/daemon_closes_all": """
import os, time, signal
for i in range(4):
    if os.fork() == 0:
        os.setsid() if i % 2 else os.setpgid(0, 0)
        [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]
        os.closerange(0, 100); time.sleep(600); os._exit(0)
os._exit(0)""",
    "live/holds_the_pipe": "import os, time\nif os.fork() == 0:\n    time.sleep(600)\nos.write(1, b'done')\nos._exit(0)",
    "live/passes_the_pipe": """
import os, socket, time
a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [1, 2])
if os.fork() == 0: os.setsid(); time.sleep(600)
os.close(1); os.close(2); os._exit(0)""",
    "live/stopped_child": "import os, signal\npid = os.fork()\nif pid == 0: os.kill(os.getpid(), signal.SIGSTOP)\nos.waitpid(pid, os.WUNTRACED)",
    "live/racing_forks": "import os\nfor _ in range(200):\n    try:\n        if os.fork(): os._exit(0)\n    except OSError: break\nimport time; time.sleep(600)",
    "live/killed_leader": "import os, signal, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(600)\nos.kill(os.getpid(), signal.SIGKILL)",
    "live/kills_its_parent": "import os, signal, time\np = os.getppid()\nif os.fork() == 0:\n    time.sleep(0.05); os.kill(p, 9) if p > 1 else None; time.sleep(600)\nos.kill(p, 19) if p > 1 else None",
    "live/daemon_thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
    "live/zombies": "import os\nfor _ in range(20):\n    try:\n        if os.fork() == 0: os._exit(0)\n    except OSError: pass",
    "live/parent_death_signal_off": "import ctypes, os, time\nctypes.CDLL(None).prctl(1, 0); ctypes.CDLL(None).prctl(36, 1)\nif os.fork() == 0:\n    ctypes.CDLL(None).prctl(1, 0); os.setsid(); time.sleep(600)",
    "live/exit_inside_thread": "import threading, os\nt = threading.Thread(target=os._exit, args=(0,)); t.start(); t.join()",
    "live/finaliser": "class A:\n    def __del__(self):\n        while True: pass\nkeep = A()",
    "live/clone_parent": "import ctypes, time\nr = ctypes.CDLL(None).syscall(56, 0x8000 | 17, 0, 0, 0, 0)\nif r == 0: time.sleep(600)\nprint(r > 0)",
    "live/junk_on_every_descriptor": """
import os, json, struct
for fd in range(0, 64):
    for text in (b'\\x00' * 64, json.dumps({'status': 'ok', 'exit': 0, 'stdout': 'FORGED'}).encode() + b'\\n', struct.pack('<I', 1 << 31), struct.pack('>Q', 1 << 40)):
        try: os.set_blocking(fd, False); os.write(fd, text)
        except OSError: pass
while True: pass""",
}

# name -> (program, what it must print, exactly): nothing here is hostile. A sandbox that stops these is of no use to a model that writes ordinary code.
HONEST = {
    "fine/threads": (
        "import threading\nt=[threading.Thread(target=lambda: None) for _ in range(8)]\n[x.start() for x in t]; [x.join() for x in t]; print('yes')",
        "yes\n",
    ),
    "fine/pool_of_threads": (
        "from concurrent.futures import ThreadPoolExecutor as P\nwith P(4) as p: print(sum(p.map(abs, range(-5, 0))))",
        "15\n",
    ),
    "fine/asyncio": ("import asyncio\nasync def f(): await asyncio.sleep(0.01); return 'yes'\nprint(asyncio.run(f()))", "yes\n"),
    "fine/recursion": ("import sys\nsys.setrecursionlimit(20000)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(9000))", "9000\n"),
    "fine/files": (
        "import tempfile, os\nwith tempfile.TemporaryDirectory() as d:\n    open(os.path.join(d, 'a'), 'w').write('yes'); print(open(os.path.join(d, 'a')).read())",
        "yes\n",
    ),
    "fine/own_folder": ("open('a', 'w').write('yes'); print(open('a').read())", "yes\n"),
    "fine/libraries": (
        "import re, json, math, random, itertools, functools, collections, heapq, bisect, decimal, fractions, statistics, string, datetime, typing, hashlib, "
        "copy, operator, textwrap, uuid, secrets, sqlite3, csv, zlib, dataclasses, enum, zoneinfo, unicodedata\nprint(uuid.uuid4().version, len(secrets.token_hex(4)))",
        "4 8\n",
    ),
    "fine/memory": ("x = bytearray(100 << 20); print(len(x) >> 20)", "100\n"),
    "fine/big_integer": ("print(len(str(2 ** 10000)))", "3011\n"),
    "fine/input": ("import sys\nprint(sys.stdin.read() == '')", "True\n"),
    "fine/unicode": ("print('\\u00e9\\u4e2d\\U0001f600')", "\u00e9\u4e2d\U0001f600\n"),
    "fine/time": (
        "import time, datetime\na = time.perf_counter(); time.sleep(0.01); print(time.perf_counter() > a, datetime.datetime.now().year > 2000)",
        "True True\n",
    ),
    "fine/main_guard": ("def f(): return 'yes'\nif __name__ == '__main__': print(f())", "yes\n"),
    "fine/pickle": ("import pickle\nclass A: x = 'yes'\nprint(pickle.loads(pickle.dumps(A())).x)", "yes\n"),
    "fine/subprocess_refused_is_an_exception": (
        "import subprocess, sys\ntry: r = subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True).returncode\nexcept OSError: pass\nprint('yes')",
        "yes\n",
    ),
    "fine/sort_a_lot": (
        "import random\nrandom.seed(0)\nx = sorted(random.random() for _ in range(200000)); print(x[0] <= x[-1])",
        "True\n",
    ),
}
