"""Solutions that do not solve their task and try to be judged right all the same: none may pass.

The task is `double(n)`. Each attack stands alone: it is loaded by the worker as any solution is.
"""

from __future__ import annotations

HONEST = "def double(n):\n    return n * 2\n"

TESTS = {
    "functions": ["double"],
    "prompt": "def double(n):\n    '''Twice n.'''\n",
    "check": "def check(candidate):\n    assert candidate(21) == 42\n    assert candidate(0) == 0\n    assert len([candidate(n) for n in range(5)]) == 5\n"
    "    assert sorted([candidate(3), candidate(1)]) == [2, 6]\n",
}
CALLS = {
    "functions": ["double"],
    "calls": [{"args": [21], "expected": 42}, {"args": [0], "expected": 0}, {"args": [-3], "expected": -6}],
}

EQUAL = """
class Always(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __gt__(self, other): return True
    def __hash__(self): return 42
"""

ATTACKS = {
    "returns None": "def double(n): return None",
    "returns the argument": "def double(n): return n",
    "exits at import": "import sys; sys.exit(0)",
    "ends the process at import": "import os; os._exit(0)",
    "exits in the call": "import sys\ndef double(n): sys.exit(0)",
    "ends the process in the call": "import os\ndef double(n): os._exit(0)",
    "raises SystemExit": "def double(n): raise SystemExit(0)",
    "raises KeyboardInterrupt": "def double(n): raise KeyboardInterrupt",
    "raises AssertionError": "def double(n): raise AssertionError",
    "raises StopIteration": "def double(n): raise StopIteration",
    "raises a lying exception": "class E(Exception):\n    def __str__(self): raise SystemExit(0)\ndef double(n): raise E",
    "always equal": EQUAL + "def double(n): return Always(7)",
    "always equal in a list": EQUAL + "def double(n): return [Always(7)]",
    "a class that lies": "class A:\n    __eq__ = lambda s, o: True\n    __class__ = int\n    __int__ = lambda s: 42\ndef double(n): return A()",
    "replaces check": "def check(candidate): pass\ndef double(n): return 1",
    "replaces AssertionError": "import builtins\nclass Quiet(Exception): pass\nbuiltins.AssertionError = Quiet\ndef double(n): return 1",
    "replaces built-ins": "import builtins\nbuiltins.len = lambda x: 5\nbuiltins.sorted = lambda x: [2, 6]\nbuiltins.all = builtins.any = lambda x: True\ndef double(n): return 1",
    "walks the frames": """
import sys
def double(n):
    frame = sys._getframe()
    while frame:
        for name, item in list(frame.f_locals.items()):
            if isinstance(item, list): item.append('passed')
            if isinstance(item, dict): item['passed'] = True
        frame = frame.f_back
    return 1""",
    "traces and jumps": "import sys\ndef trace(frame, event, arg):\n    frame.f_trace_lines = True\n    return trace\nsys.settrace(trace)\ndef double(n): return 1",
    "profiles": "import sys\nsys.setprofile(lambda *a: None)\ndef double(n): return 1",
    "looks for the expected values": """
import gc, re, sys
def double(n):
    for item in gc.get_objects():
        if isinstance(item, dict):
            for key in ('expected', 'calls', 'check', 'tests'):
                if key in item: return item[key][0]['expected'] if key == 'calls' else item[key]
    return None""",
    "scans its memory for the tests": """
import ctypes, gc
def double(n):
    base = id(gc) & ~0xfff
    for at in range(base - (1 << 20), base + (1 << 20), 4096):
        try: text = ctypes.string_at(at, 4096)
        except Exception: continue
        if b'candidate(21)' in text: return 42
    return None""",
    "writes a verdict to every descriptor": """
import os
said = b'{"tests": [{"name": "check", "passed": true, "why": ""}]}\\n'
for n in range(0, 64):
    try: os.write(n, said)
    except OSError: pass
def double(n): return 1""",
    "answers before it is asked": """
import os
for n in range(1, 20):
    try: os.write(6, b'{"n": %d, "value": 42}\\n' % n)
    except OSError: pass
def double(n): return 1""",
    "says it is loaded twice": "import os\nos.write(6, b'{\"loaded\": null}\\n')\ndef double(n): return 1",
    "answers with a number that is equal": 'import os\nfor n in (1, 2, 3):\n    os.write(6, b\'{"n": %d.0, "value": 42}\\n\' % n)\ndef double(n): return 1',
    "deep JSON": "import os\ndef double(n):\n    os.write(6, b'[' * 20000 + b'\\n')\n    return 1",
    "a reply without end": "import os\ndef double(n):\n    while True: os.write(6, b'x' * 65536)",
    "a value without end": "def double(n): return 'x' * (20 << 20)",
    "nested without end": "def double(n):\n    x = []\n    for _ in range(500): x = [x]\n    return x",
    "refers to itself": "def double(n):\n    x = []\n    x.append(x)\n    return x",
    "lone surrogates": "def double(n): return '\\ud800'",
    "raises a lone surrogate": "def double(n): raise ValueError('\\ud800')",
    "lone surrogate at import": "raise ValueError('\\ud800')",
    "not a number": "def double(n): return float('nan')",
    "minus zero and a half": "def double(n): return -0.0 if n == 0 else n * 2 + 0.5",
    "huge number": "def double(n): return 1 << (1 << 22)",
    "unhashable in a set": 'import os\ndef double(n):\n    os.write(6, b\'{"n": 1, "value": ["s", ["l"]]}\\n\')\n    return 1',
    "odd tags": 'import os\ndef double(n):\n    os.write(6, b\'{"n": 1, "value": ["h", 0, "class", "int", []]}\\n\')\n    return 1',
    "late thread": "import threading, time, os\ndef late():\n    time.sleep(0.05)\n    for n in range(3, 20):\n        try: os.write(n, b'{\"passed\": true}')\n        except OSError: pass\nthreading.Thread(target=late, daemon=True).start()\ndef double(n): return 1",
    "at exit": 'import atexit, os\natexit.register(lambda: os.write(6, b\'{"n": 1, "value": 42}\\n\'))\ndef double(n): return 1',
    "at collection": 'import os\nclass D:\n    def __del__(self): os.write(6, b\'{"n": 2, "value": 0}\\n\')\ndef double(n):\n    D()\n    return 42 if n == 21 else None',
    "skips": "import unittest\nraise unittest.SkipTest('done')",
    "skips in the call": "import unittest\ndef double(n): raise unittest.SkipTest('done')",
    "shadows a module": "import sys, types\nfor name in ('math', 'json', 'posttrain.sandbox.inside.values'):\n    sys.modules[name] = types.ModuleType(name)\ndef double(n): return 1",
    "replaces the worker": """
import sys
worker = sys.modules.get('posttrain.sandbox.inside.worker')
if worker:
    worker.form = lambda value, lend=None, depth=0: 42
    worker.answer = lambda *a: {'n': a[0]['n'], 'value': 42}
def double(n): return 1""",
    "kills everybody": "import os, signal\nfor pid in range(2, 4000):\n    try: os.kill(pid, signal.SIGKILL)\n    except OSError: pass\ndef double(n): return 1",
    "loops in the call": "def double(n):\n    while True: pass",
    "loops at import": "while True: pass",
    "sleeps in the call": "import time\ndef double(n): time.sleep(1000)",
    "bombs its memory": "def double(n):\n    x = []\n    while True: x.append('x' * (1 << 20))",
    "a generator": "def double(n): yield n * 2",
    "a function": "def double(n): return lambda: 42",
    "is no function": "double = 42",
    "is not there": "def triple(n): return 42",
    "syntax error": "def double(n) return 42",
    "nothing": "",
    "reads the tester": "import glob\ndef double(n): return open(sorted(glob.glob('/proc/*/mem'))[0]).read()",
}
