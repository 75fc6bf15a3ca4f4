"""Which system calls a confined program may make, and their numbers on x86-64 and on 64-bit ARM.

An allowlist: what a kernel learns tomorrow is denied until somebody reads up on it. The numbers are those of Linux' headers
(asm/unistd_64.h and asm-generic/unistd.h); `-` where an architecture has no such call. Fails closed on other machines: `NUMBERS`
is empty there, and the embedded backend says so.
"""

from __future__ import annotations

import os

_TABLE = """
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70 preadv2:327:286
pwritev2:328:287 lseek:8:62 close:3:57 close_range:436:436 open:2:- openat:257:56 creat:85:- stat:4:- fstat:5:80
lstat:6:- newfstatat:262:79 statx:332:291 access:21:- faccessat:269:48 faccessat2:439:439 readlink:89:-
readlinkat:267:78 getcwd:79:17 chdir:80:49 fchdir:81:50 getdents:78:- getdents64:217:61 mkdir:83:- mkdirat:258:34
rmdir:84:- unlink:87:- unlinkat:263:35 rename:82:- renameat:264:38 renameat2:316:276 link:86:- linkat:265:37
symlink:88:- symlinkat:266:36 ftruncate:77:46 fsync:74:82 fdatasync:75:83 fadvise64:221:223 statfs:137:43 fstatfs:138:44
umask:95:166 dup:32:23 dup2:33:- dup3:292:24 pipe:22:- pipe2:293:59 sendfile:40:71 copy_file_range:326:285 flock:73:32
poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:- epoll_create1:291:20 epoll_ctl:233:21
epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441 eventfd:284:- eventfd2:290:19 nanosleep:35:101
clock_nanosleep:230:115 pause:34:- mmap:9:222 mprotect:10:226 munmap:11:215 mremap:25:216 brk:12:214 madvise:28:233
clock_gettime:228:113 clock_getres:229:114 gettimeofday:96:169 time:201:- times:100:153 getitimer:36:102
setitimer:38:103 alarm:37:- rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136
rt_sigtimedwait:128:137 rt_sigsuspend:130:133 sigaltstack:131:132 restart_syscall:219:128 exit:60:93 exit_group:231:94
wait4:61:260 waitid:247:95 getpid:39:172 gettid:186:178 getppid:110:173 getuid:102:174 geteuid:107:175 getgid:104:176
getegid:108:177 getresuid:118:148 getresgid:120:150 getgroups:115:158 getpgrp:111:- uname:63:160 sysinfo:99:179
getrandom:318:278 getrusage:98:165 getrlimit:97:163 setrlimit:160:164 arch_prctl:158:- set_tid_address:218:96
set_robust_list:273:99 futex:202:98 rseq:334:293 membarrier:324:283 sched_yield:24:124 sched_getaffinity:204:123
getcpu:309:168 recvfrom:45:207 getsockopt:55:209 getsockname:51:204 getpeername:52:205 shutdown:48:210 socketpair:53:199
sendto:44:206 clone:56:220 prlimit64:302:261 sched_setaffinity:203:122 kill:62:129 tgkill:234:131 fcntl:72:25
ioctl:16:29 prctl:157:167 chmod:90:- fchmod:91:52 fchmodat:268:53 chown:92:- fchown:93:55 lchown:94:- fchownat:260:54
utime:132:- utimes:235:- futimesat:261:- utimensat:280:88 truncate:76:45 clone3:435:435 landlock_create_ruleset:444:444
landlock_add_rule:445:445 landlock_restrict_self:446:446 mount_setattr:442:442 pivot_root:155:41 capset:126:91
"""

_MACHINES = {"x86_64": 1, "aarch64": 2}


def numbers(machine: str) -> dict[str, int]:
    """Name to number on one kind of machine; empty where the table knows nothing of it."""
    column = _MACHINES.get(machine)
    rows = (entry.split(":") for entry in _TABLE.split())
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"} if column else {}


NUMBERS = numbers(os.uname().machine)

FREE = """
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range open openat creat stat
fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getcwd chdir fchdir getdents getdents64
mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat ftruncate fsync fdatasync
fadvise64 statfs fstatfs umask dup dup2 dup3 pipe pipe2 sendfile copy_file_range flock poll ppoll select pselect6
epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 nanosleep clock_nanosleep
pause mmap mprotect munmap mremap brk madvise clock_gettime clock_getres gettimeofday time times getitimer setitimer
alarm rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack restart_syscall
exit exit_group wait4 waitid getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp
uname sysinfo getrandom getrusage getrlimit setrlimit arch_prctl set_tid_address set_robust_list futex rseq membarrier
sched_yield sched_getaffinity getcpu recvfrom getsockopt getsockname getpeername shutdown
""".split()
"""Allowed whatever the arguments: files (as far as the mounts and Landlock leave any), waiting, memory, time, its own signals and
threads, and reading from the pairs of sockets that asyncio makes for itself."""

METADATA = "chmod fchmod fchmodat chown fchown lchown fchownat utime utimes futimesat utimensat truncate".split()
"""Landlock does not govern these, so they are allowed only where every path that is left belongs to the sandbox."""
