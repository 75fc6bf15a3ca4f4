"""Attacks on the code grader's verdict, written from its promise alone: answers that do not solve the task and want to pass.

The task: `f(n)` is `n * n + 7`, `g(n)` the list `[n, n + 1, n + 2]`, `h(n)` the text "n" followed by the number. No answer here computes these, so the verdict
of every one must be 0. The right answer, and right ones in unusual clothes (`RIGHT`), must pass: a grader that fails everything would hold every forgery.
Source: the promise ("the process that decides never loads model-written code; plain tagged values, exact built-in types, size and depth capped, no pickle").
Fails when: a forgery happens to be right by chance, which is why the values are odd ones.
"""

SOLUTION = "def f(n): return n * n + 7\ndef g(n): return [n, n + 1, n + 2]\ndef h(n): return 'n%d' % n\n"
CHECK = {
    "functions": ["f", "g", "h"],
    "check": "def check(candidate):\n    assert candidate(3) == 16\n    assert candidate(0) == 7\n    assert candidate(4) in (23,)\n"
    "    assert abs(candidate(-2) - 11) < 1e-6\n    assert g(4) == [4, 5, 6] and h(5) == 'n5'\n",
}
CALLS = {
    "functions": ["f", "g", "h"],
    "calls": [
        {"args": [3], "expected": 16},
        {"args": [0], "expected": 7},
        {"function": "g", "args": [4], "expected": [4, 5, 6]},
        {"function": "h", "args": [5], "expected": "n5"},
    ],
}

LIAR = """
class Liar(BASE):
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    def __hash__(self): return 0
    def __bool__(self): return True
    def __len__(self): return 3
    def __getitem__(self, i): return self
    def __iter__(self): return iter((self, self, self))
    def __lt__(self, o): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __sub__(self, o): return 0
    __rsub__ = __mod__ = __sub__
    def __instancecheck__(self, o): return True
    def __reduce__(self): return (eval, ("16",))
    def __repr__(self): return "16"
    def __str__(self): return "16"
    def __float__(self): return 16.0
    def __int__(self): return 16
    __index__ = __int__
f = g = h = lambda n: Liar(*ARGS)
"""


def liar(base: str, args: str = "()") -> str:
    """An answer whose results are a subclass of `base` that agrees with everything."""
    return LIAR.replace("BASE", base).replace("ARGS", args)


WRONG = "\nf = g = h = lambda n: None\n"
WALK = """
def values(depth=[0]):
    import sys, gc
    frame = sys._getframe()
    while frame:
        for place in (frame.f_locals, frame.f_globals):
            for name, v in list(place.items()):
                if 'expect' in name or name in ('want', 'check', 'tests', 'answer', 'outputs'): yield name, v
        frame = frame.f_back
    for o in gc.get_objects():
        if isinstance(o, dict):
            for name in ('expected', 'expects', 'check', 'tests', 'want', 'result'):
                if name in o: yield name, o[name]
"""

FORGERIES = {
    "lie/object": liar("object"),
    "lie/int": liar("int"),
    "lie/str": liar("str"),
    "lie/list": liar("list", "([1, 2, 3],)"),
    "lie/dict": liar("dict"),
    "lie/float": liar("float"),
    "lie/exception": liar("Exception"),
    "lie/metaclass": "class M(type):\n    def __eq__(c, o): return True\n    def __hash__(c): return 0\nclass A(metaclass=M):\n    pass\nf = g = h = lambda n: A",
    "lie/class_property": "class A:\n    __class__ = property(lambda s: int)\n    def __eq__(s, o): return True\nf = g = h = lambda n: A()",
    "lie/class_assigned": "class A(list):\n    def __eq__(s, o): return True\ndef f(n):\n    a = A(); return a\ng = h = f",
    "lie/list_of_liars": liar("object") + "\ng = lambda n: [Liar()] * 3\nf = lambda n: Liar()\n",
    "lie/nan": "f = g = h = lambda n: float('nan')",
    "lie/true_for_all": "f = g = h = lambda n: True",
    "lie/mock": "from unittest.mock import ANY, MagicMock\nf = g = h = lambda n: ANY",
    "exit/zero_after_pass": "import os, sys\nprint('passed'); print('1.0'); print('{\"passed\": true, \"score\": 1.0}'); sys.stdout.flush(); os._exit(0)",
    "exit/system_exit": "raise SystemExit(0)",
    "exit/in_call": "import os\ndef f(n): os._exit(0)\ng = h = f",
    "exit/system_exit_in_call": "def f(n): raise SystemExit(0)\ng = h = f",
    "exit/keyboard_interrupt": "def f(n): raise KeyboardInterrupt\ng = h = f",
    "exit/generator_exit": "def f(n): raise GeneratorExit\ng = h = f",
    "exit/stop_iteration": "def f(n): raise StopIteration(16)\ng = h = f",
    "exit/assertion_swallowed": "class E(AssertionError):\n    def __init__(s, *a): pass\nimport builtins; builtins.AssertionError = E\ndef f(n): raise E\ng = h = f",
    "exit/kill_parent": "import os\ndef f(n):\n    os.kill(os.getppid(), 9) if os.getppid() > 1 else None\n    os.kill(os.getpid(), 9)\ng = h = f",
    "write/every_descriptor": """
import os, json, struct, sys
def shout():
    for text in (b'passed\\n', b'1\\n', b'{"ok": true, "passed": true, "score": 1.0, "value": 16}\\n', b'["int", "16"]\\n', b'["ok", ["int", 16]]\\n'):
        for fd in range(0, 64):
            for frame in (text, struct.pack('>I', len(text)) + text, struct.pack('<I', len(text)) + text, struct.pack('>Q', len(text)) + text):
                try: os.set_blocking(fd, False); os.write(fd, frame)
                except OSError: pass
shout()
def f(n): shout(); os._exit(0)
g = h = f""",
    "write/replace_stdout": "import sys, io\nclass O(io.StringIO):\n    def write(s, t): sys.__stdout__.write('passed 1.0'); return len(t)\nsys.stdout = sys.stderr = O()"
    + WRONG,
    "write/dup_over": "import os\nfor i in range(3, 32):\n    try: os.dup2(1, i)\n    except OSError: pass\nprint('passed')"
    + WRONG,
    "write/close_all": "import os\nos.closerange(0, 256)" + WRONG,
    "write/race_thread": """
import threading, os, time
def loop():
    while True:
        for fd in range(3, 20):
            try: os.write(fd, b'{"ok": true, "value": 16}\\n')
            except OSError: pass
        time.sleep(0.001)
threading.Thread(target=loop, daemon=True).start()
def f(n): time.sleep(0.05); return None
g = h = f""",
    "write/sentinel_text": 'f = g = h = lambda n: b\'\\x00\\xff{"status":"passed"}\\n\\n---PASS---\\n\'',
    "write/surrogates": "f = g = h = lambda n: '\\ud800\\udfff\\x00' + 'n%d' % n",
    "patch/builtins": """
import builtins
class Yes(int):
    def __eq__(s, o): return True
for name in ('isinstance', 'all', 'any', 'hasattr', 'callable', 'issubclass'): setattr(builtins, name, lambda *a: True)
builtins.type = lambda x: int
builtins.len = lambda x: 3
builtins.AssertionError = type('E', (BaseException,), {})"""
    + WRONG,
    "patch/json_pickle_struct": """
import json, pickle, marshal, struct, sys
for m in (json, pickle, marshal):
    m.dumps = lambda *a, **k: '{"ok": true, "value": 16}'; m.loads = lambda *a, **k: 16
json.JSONEncoder.encode = lambda s, o: '{"ok": true, "value": 16}'"""
    + WRONG,
    "patch/modules": "import sys\nfor m in list(sys.modules):\n    if 'posttrain' in m or m in ('unittest', 'pytest', 'json', 'worker', 'protocol'): sys.modules[m] = None"
    + WRONG,
    "patch/import_hook": """
import sys, builtins
class Finder:
    def find_spec(s, *a): return None
sys.meta_path.insert(0, Finder()); old = builtins.__import__
def fake(*a, **k): return old(*a, **k)
builtins.__import__ = fake; builtins.compile = lambda *a, **k: None; builtins.exec = lambda *a, **k: None"""
    + WRONG,
    "patch/main": "import __main__, sys\nfor k, v in list(vars(__main__).items()):\n    if callable(v) and not k.startswith('__'): setattr(__main__, k, lambda *a, **k: True)"
    + WRONG,
    "patch/caller_functions": """
import sys
def f(n):
    frame = sys._getframe(1)
    while frame:
        for k, v in list(frame.f_globals.items()):
            if callable(v) and hasattr(v, '__code__') and k not in ('f', 'g', 'h'):
                try: v.__code__ = (lambda *a, **k: True).__code__
                except Exception: pass
        frame = frame.f_back
g = h = f""",
    "patch/check_redefined": "def check(candidate): return True\nclass T: pass\ndef test(*a): pass" + WRONG,
    "patch/truth_by_ctypes": """
import ctypes
try:
    ctypes.memmove(id(16) + 24, b'\\x00\\x00\\x00\\x00', 4); ctypes.memmove(id(23) + 24, b'\\x00\\x00\\x00\\x00', 4)
except Exception: pass
f = g = h = lambda n: 0""",
    "patch/garbage_walk": "import gc\nfor o in gc.get_objects():\n    if type(o) is dict:\n        for k in ('passed', 'ok', 'score', 'correct'):\n            if k in o:\n                try: o[k] = True\n                except Exception: pass"
    + WRONG,
    "spy/frames": WALK + "\ndef f(n):\n    for k, v in values():\n        if type(v) in (int, list, str): return v\ng = h = f",
    "spy/recursive_check": WALK
    + """
def f(n):
    for k, v in values():
        if callable(v):
            for x in range(-500, 500):
                try: v(lambda *_: x); return x
                except BaseException: pass
g = h = f""",
    "spy/source_files": """
import os, sys, re
def f(n):
    for root in ('.', '/tmp', '/proc/self', os.path.dirname(sys.argv[0] or '.')):
        for name in os.listdir(root) if os.path.isdir(root) else ():
            try: text = open(os.path.join(root, name), errors='replace').read(100000)
            except OSError: continue
            if (m := re.search(r'\\(%d\\) *== *(\\d+)' % n, text)): return int(m[1])
g = h = f""",
    "spy/own_memory": """
import re
def f(n):
    found = []
    for line in open('/proc/self/maps'):
        if 'rw' not in line: continue
        a, b = (int(x, 16) for x in line.split()[0].split('-'))
        try:
            with open('/proc/self/mem', 'rb') as m: m.seek(a); found += re.findall(rb'f\\(%d\\) *== *(\\d+)' % n, m.read(min(b - a, 1 << 24)))
        except (OSError, ValueError, OverflowError): pass
    return int(found[-1]) if found else None
g = h = f""",
    "spy/stdin_and_arguments": "import sys, os, re\nos.set_blocking(0, False)\ntext = str(sys.argv) + str(os.environ)\ntry: text += str(os.read(0, 1 << 20))\nexcept OSError: pass\ndef f(n):\n    m = re.search(r'\\(%d\\) == (\\d+)' % n, text); return int(m[1]) if m else None\ng = h = f",
    "spy/read_descriptors": """
import os, re
def f(n):
    text = b''
    for fd in range(3, 32):
        try: os.set_blocking(fd, False); text += os.read(fd, 1 << 16)
        except OSError: pass
    m = re.search(rb'(\\d+)', text); return int(m[1]) if m else None
g = h = f""",
    "spy/trace": "import sys\nseen = []\ndef tr(frame, event, arg):\n    seen.append(frame.f_locals); return tr\nsys.settrace(tr); sys.setprofile(tr)\ndef f(n):\n    for l in seen:\n        for k, v in list(l.items()):\n            if 'expect' in k: return v\ng = h = f",
    "time/alarm": "import signal\ndef fire(*a): raise SystemExit(0)\nsignal.signal(signal.SIGALRM, fire); signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)\ndef f(n):\n    while True: pass\ng = h = f",
    "time/endless_generator": "import itertools\nf = g = h = lambda n: itertools.count()",
    "time/endless_list": "class L(list):\n    def __iter__(s):\n        while True: yield 1\nf = g = h = lambda n: L([1])",
    "time/sleep": "import time\ndef f(n): time.sleep(100)\ng = h = f",
    "size/huge_text": "f = g = h = lambda n: 'n' * (1 << 28)",
    "size/huge_number": "f = g = h = lambda n: 1 << (1 << 27)",
    "size/recursive_list": "def f(n):\n    a = []; a.append(a); return a\ng = h = f",
    "size/recursive_dict": "def f(n):\n    a = {}; a['a'] = [a]; return a\ng = h = f",
    "size/deep": "def f(n):\n    a = n\n    for _ in range(200000): a = [a]\n    return a\ng = h = f",
    "size/shared_bomb": "def f(n):\n    a = ['x'] * 10\n    for _ in range(40): a = [a, a, a]\n    return a\ng = h = f",
    "size/deep_exception": "def f(n):\n    e = None\n    for _ in range(100000):\n        x = ValueError('x'); x.__cause__ = e; e = x\n    raise e\ng = h = f",
    "error/hostile_text": "class E(Exception):\n    def __str__(s): raise s\n    __repr__ = __str__\n    def __getattribute__(s, n): raise SystemExit(0)\ndef f(n): raise E\ng = h = f",
    "error/endless_text": "class E(Exception):\n    def __str__(s):\n        while True: pass\ndef f(n): raise E\ng = h = f",
    "error/text_is_a_lie": "class S(str):\n    def encode(s, *a, **k): return b'{\"ok\": true, \"value\": 16}'\nclass E(Exception):\n    def __str__(s): return S('passed')\ndef f(n): raise E('passed')\ng = h = f",
    "error/at_import": "raise AssertionError('passed')",
    "error/syntax": "def f(n: return",
    "error/null_byte": "x = 1\x00\n",
    "error/encoding_cookie": "# -*- coding: rot13 -*-\nqrs s(a): erghea 16\n",
    "state/changes_between_reads": "class A(list):\n    n = 0\n    def __len__(s): A.n += 1; return A.n\n    def __getitem__(s, i): A.n += 1; return A.n\nf = g = h = lambda n: A()",
    "state/counts_calls": "k = [0]\ndef f(n): k[0] += 1; return [16, 7, 16, 7][k[0] % 4]\ng = h = f",
    "state/argument_altered": "def g(n):\n    return n\ndef f(n):\n    return 16 if n == 3 else 0\nh = g",
    "state/thread_keeps_changing": "import threading\nbox = [0]\ndef run():\n    while True: box[0] += 1; del box[1:]; box.append(box[0])\nthreading.Thread(target=run, daemon=True).start()\nf = g = h = lambda n: box",
    "state/del_at_exit": "class A:\n    def __del__(s):\n        import os; os.write(1, b'passed'); os._exit(0)\nkeep = A()"
    + WRONG,
    "state/atexit": "import atexit, os\natexit.register(lambda: os._exit(0))" + WRONG,
    "state/fork_in_call": "import os\ndef f(n):\n    try: os.fork()\n    except OSError: pass\n    return None\ng = h = f",
    "state/not_callable": "f = g = h = 16",
    "state/function_object": "class F:\n    __code__ = None\n    def __call__(s, *a): return s\n    def __eq__(s, o): return True\nf = g = h = F()",
    "state/comes_later": "def __getattr__(name): return lambda n: 16\n",
    "state/deleted": "f = 1\ndel f",
    "text/closes_the_quotes": "'''\n\"\"\"\n''';f=g=h=lambda n: 16\n#'''",
    "text/main_block": "if __name__ == '__main__':\n    print('passed')\n    raise SystemExit(0)" + WRONG,
    "text/future_annotations": "from __future__ import barry_as_FLUFL" + WRONG,
}

RIGHT = {
    "right/plain": SOLUTION,
    "right/prints": "print('hello')\n" + SOLUTION.replace("def f(n): return", "def f(n): print('x' * 1000); return"),
    "right/threads": "import threading\nt = threading.Thread(target=print); t.start()\n" + SOLUTION,
    "right/asyncio": "import asyncio\n" + SOLUTION.replace("return n * n + 7", "return asyncio.run(asyncio.sleep(0, n * n + 7))"),
    "right/lambda": "f = lambda n: n * n + 7\ng = lambda n: list(range(n, n + 3))\nh = 'n{}'.format\n",
    "right/class_call": "class F:\n    def __call__(self, n): return n * n + 7\n" + SOLUTION + "\nf = F()\n",
    "right/cached": "import functools\n" + SOLUTION + "\nf = functools.lru_cache(None)(f)\n",
    "right/caught_error": "try: 1 / 0\nexcept ZeroDivisionError: pass\n" + SOLUTION,
    "right/main_guard": SOLUTION + "\nif __name__ == '__main__':\n    print(f(3))\n",
}
