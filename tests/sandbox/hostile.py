"""Programs that try to get out, to stay, or to take the machine with them: each says ESCAPED if it succeeds.

`statuses` are the ways in which it may end; a program that is denied politely goes on and ends with `ok`. `{secret}`, `VICTIM`,
`PORT`, `{abstract}` and `{folder}` are filled in with things that exist outside.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Hostile:
    name: str
    source: str
    statuses: tuple[str, ...]


def loops(name: str, source: str, *statuses: str) -> Hostile:
    return Hostile(name, textwrap.dedent(source), statuses or ("timeout",))


def tries(name: str, source: str, *statuses: str) -> Hostile:
    """ESCAPED unless the code raises."""
    body = textwrap.indent(textwrap.dedent(source).strip(), "    ")
    head = "import ctypes, mmap, os, signal, socket, struct, subprocess, sys, threading, time\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    head += "def done(result):\n    if result < 0: raise OSError(ctypes.get_errno(), 'denied')\n"
    return Hostile(
        name,
        f"{head}try:\n{body}\nexcept Exception as error:\n    print(repr(error))\nelse:\n    print('ESCAPED')\n",
        statuses or ("ok",),
    )


def calls(name: str, number: int, *arguments: object) -> Hostile:
    """A system call by its number on x86-64; elsewhere there is nothing to try."""
    given = "".join(f", {argument}" for argument in arguments)
    return tries(name, f"if os.uname().machine != 'x86_64': raise OSError('another machine')\ndone(libc.syscall({number}{given}))")


PROGRAMS = [
    # time
    loops("infinite loop", "while True: pass"),
    loops("sleep", "import time; time.sleep(1000)"),
    loops(
        "ignores signals",
        """
        import signal
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: pass""",
    ),
    loops(
        "catches everything",
        """
        while True:
            try:
                while True: pass
            except BaseException: pass""",
    ),
    loops("regex", "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')"),
    loops("tower of powers", "9 ** 9 ** 9", "timeout", "memory"),
    loops(
        "threads that burn",
        """
        import threading
        def burn():
            while True: pass
        for _ in range(4): threading.Thread(target=burn).start()""",
    ),
    loops("late exit", "import atexit, time; atexit.register(time.sleep, 1000)"),
    # memory
    loops("list of lists", "x = []\nwhile True: x.append([0] * 100000)", "memory", "timeout"),
    loops("8 GiB at once", "bytearray(8 << 30)", "memory"),
    tries("memory in a file", "done(libc.memfd_create(b'x', 0))"),
    tries("anonymous shared mapping beyond the limit", "held = [mmap.mmap(-1, 64 << 20) for _ in range(64)]"),
    tries("fills /dev/shm", "open('/dev/shm/x', 'wb').write(b'x' * (1 << 20))"),
    tries("fills /tmp", "open('/tmp/x', 'wb').write(b'x' * (1 << 20))"),
    tries("fills its folder", "open('big', 'wb').write(b'x' * (64 << 20))"),
    tries("200,000 files", "for n in range(200000): open('f%d' % n, 'w').close()", "ok", "timeout"),
    tries("pipes", "pipes = [os.pipe() for _ in range(1000)]"),
    tries("larger pipes", "import fcntl; fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)"),
    tries("SysV shared memory", "done(libc.shmget(0, 1 << 20, 0o1600))"),
    tries("SysV messages", "done(libc.msgget(0, 0o1600))"),
    tries("SysV semaphores", "done(libc.semget(0, 1, 0o1600))"),
    tries("POSIX message queue", "done(libc.syscall(240, b'/posttrain', 0o102, 0o600, None))"),
    tries("locks memory", "done(libc.mlockall(3))"),
    # processes
    loops(
        "fork bomb",
        """
        import os
        while True:
            try:
                if os.fork() == 0: continue
                print('ESCAPED'); break
            except OSError: break""",
        "ok",
    ),
    tries(
        "threads without end",
        "threads = [threading.Thread(target=time.sleep, args=(0.2,), daemon=True) for _ in range(500)]\nfor each in threads: each.start()",
    ),
    tries("daemon", "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)"),
    tries("new session", "os.setsid()"),
    tries("vfork", "done(libc.vfork())"),
    calls("clone without a thread", 56, "0x11", 0, 0, 0, 0),
    calls("clone into a namespace", 56, "0x10000011", 0, 0, 0, 0),
    calls("clone3", 435, "ctypes.create_string_buffer(88)", 88),
    tries("subprocess", "subprocess.run(['/bin/sh', '-c', 'echo'])"),
    tries("spawn", "if os.posix_spawn('/bin/true', ['true'], {}) < 1: raise OSError('denied')"),
    tries("execve", "os.execv(sys.executable or '/usr/bin/python3', ['python', '-c', 'print(1)'])"),
    tries("execveat from memory", "done(libc.syscall(322, -1, b'', None, None, 0x1000))"),
    tries(
        "multiprocessing",
        "import multiprocessing\nprocess = multiprocessing.get_context('fork').Process(target=print); process.start(); process.join()",
    ),
    # output
    loops("floods stdout", "while True: print('x' * 10000)", "killed"),
    loops("floods stderr", "import sys\nwhile True: sys.stderr.write('x' * 10000)", "killed"),
    loops("one line of 50 MB", "print('x' * 50_000_000)", "killed"),
    tries(
        "writes to every descriptor",
        "written = 0\nfor n in range(3, 64):\n    try: written += os.write(n, b'ready')\n    except OSError: pass\nif not written: raise OSError('none open')",
    ),
    # files
    tries("reads the users", "open('/etc/passwd').read()"),
    tries("reads a secret", "open(SECRET).read()"),
    tries("reads it by its descriptor", "os.read(os.open(SECRET, os.O_PATH), 10)"),
    tries("reads it through a link", "os.symlink(SECRET, 'link'); open('link').read()"),
    tries("links it", "os.link(SECRET, 'hard')"),
    tries("appends to a secret", "open(SECRET, 'a').write('x')"),
    tries("truncates a secret", "os.truncate(SECRET, 0)"),
    tries("changes a secret's mode", "os.chmod(SECRET, 0o777)"),
    tries("changes a secret's time", "os.utime(SECRET, (0, 0))"),
    tries("removes a secret", "os.unlink(SECRET)"),
    tries("lists a folder outside", "os.listdir(FOLDER)"),
    tries("lists the root", "if {'etc', 'home'} & set(os.listdir('/')): pass\nelse: raise OSError('nothing there')"),
    tries("another's environment", "open('/proc/%d/environ' % VICTIM).read()"),
    tries("its parent's memory", "open(f'/proc/{os.getppid()}/mem', 'r+b').read(1)"),
    tries("its own memory", "open('/proc/self/mem', 'r+b')"),
    tries("mounts of the machine", "open('/proc/self/mountinfo').read()"),
    tries("kernel memory", "open('/proc/kcore', 'rb').read(1)"),
    tries("kernel's devices", "open('/dev/mem', 'rb').read(1)"),
    tries("virtual machines", "open('/dev/kvm', 'rb')"),
    tries("system settings", "open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/true')"),
    tries("sysfs", "os.listdir('/sys/kernel')"),
    tries("terminal", "open('/dev/tty', 'w').write('x')"),
    tries("writes to the library", "open(os.__file__, 'a')"),
    tries("writes to /usr", "open('/usr/lib/x', 'w')"),
    tries("writes to the root", "open('/x', 'w')"),
    tries("makes a device", "os.mknod('device', 0o20600, os.makedev(1, 1))"),
    calls("opens by handle", 304, -100, "ctypes.create_string_buffer(64)", 0),
    # network
    tries("TCP to this machine", "socket.create_connection(('127.0.0.1', PORT), 1)"),
    tries("UDP", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))"),
    tries("raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    tries("netlink", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    tries("abstract socket", "socket.socket(socket.AF_UNIX).connect(ABSTRACT)"),
    tries("datagram pair to an abstract socket", "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', ABSTRACT)"),
    tries("reconnects a pair", "socket.socketpair()[0].connect(ABSTRACT)"),
    tries("passes a descriptor", "a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0])"),
    tries("listens", "socket.create_server(('127.0.0.1', 0))"),
    tries("resolves a name", "socket.getaddrinfo('example.org', 80)"),
    # others
    tries("signals another", "os.kill(VICTIM, signal.SIGTERM)"),
    tries("signals its parent", "os.kill(os.getppid(), signal.SIGTERM)"),
    tries("signals everybody", "os.kill(-1, signal.SIGTERM)"),
    tries("signals its group", "os.killpg(0, signal.SIGTERM)"),
    tries("signals through a pipe", "import fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, VICTIM)"),
    tries("holds another", "os.pidfd_open(VICTIM)"),
    tries("traces another", "done(libc.ptrace(16, VICTIM, None, None))"),
    calls("reads another's memory", 310, "VICTIM", 0, 0, 0, 0, 0),
    tries("limits another", "import resource; resource.prlimit(VICTIM, resource.RLIMIT_AS, (1, 1))"),
    tries("another's priority", "os.setpriority(os.PRIO_PROCESS, VICTIM, 19)"),
    tries("another's processors", "os.sched_setaffinity(VICTIM, {0})"),
    # privileges
    tries("user namespace", "done(libc.unshare(0x10000000))"),
    tries("mount namespace", "done(libc.unshare(0x20000))"),
    tries("joins a namespace", "done(libc.setns(0, 0))"),
    tries("mounts", "done(libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None))"),
    tries("changes root", "os.chroot('.')"),
    tries("becomes root", "os.setuid(0)"),
    tries("raises its limits", "import resource; resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)"),
    tries("real-time", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"),
    tries("sets the clock", "time.clock_settime(time.CLOCK_REALTIME, 0)"),
    tries("types into the terminal", "import fcntl; fcntl.ioctl(0, 0x5412, b'x')"),
    tries("outlives its parent", "done(libc.prctl(1, 0, 0, 0, 0))"),
    tries("can be looked into", "done(libc.prctl(4, 1, 0, 0, 0))"),
    calls("io_uring", 425, 8, "ctypes.create_string_buffer(120)"),
    calls("bpf", 321, 0, "ctypes.create_string_buffer(120)", 120),
    calls("userfaultfd", 323, 0),
    calls("perf events", 298, "ctypes.create_string_buffer(120)", 0, -1, -1, 0),
    calls("keys", 250, 0, -3, 0),
    calls("secret memory", 447, 0),
    calls("seccomp filters of its own", 317, 1, 0, 0),
    calls("fanotify", 300, 0, 0),
    calls("personality", 135, "0x0040000"),
    calls("modules", 313, 0, b"", 0),
    calls("a call of tomorrow", 600),
    loops(
        "x32 calls",
        "import ctypes, os\nif os.uname().machine == 'x86_64': ctypes.CDLL(None).syscall(0x40000000 + 39)\nelse: os.abort()",
        "killed",
    ),
    # crashes
    loops(
        "recursion", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\nf()", "killed", "memory", "error", "timeout"
    ),
    loops("null", "import ctypes; ctypes.string_at(0)", "killed"),
    loops("abort", "import os; os.abort()", "killed"),
    loops("own SIGKILL", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed"),
    loops("exits at once", "import os; os._exit(7)", "error"),
    loops("closes its streams", "import os\nfor n in range(64):\n    try: os.close(n)\n    except OSError: pass", "ok", "error"),
    loops("source of nothing", "\0", "error"),
    loops("source too deep", "(" * 100000, "error", "memory", "killed"),
]


def filled(source: str, **outside: object) -> str:
    for name, value in outside.items():
        source = source.replace(name.upper(), repr(value))
    return source
