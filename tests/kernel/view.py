"""Says, in JSON, what a program sees of its surroundings: run inside by test_view.py."""

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import socket
import struct
import sys

keyctl_number = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

# <linux/prctl.h>
PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_GET_SECUREBITS, PR_GET_TIMERSLACK = 2, 3, 27, 30
PR_GET_CHILD_SUBREAPER, PR_GET_THP_DISABLE = 37, 42
SIOCGIFFLAGS, IFF_UP = 0x8913, 1


def read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        return type(error).__name__


def prctl(option: int) -> int:
    return int(libc.prctl(option, 0, 0, 0, 0))


def prctl_to_address(option: int) -> int:
    number = ctypes.c_int(-1)
    libc.prctl(option, ctypes.byref(number), 0, 0, 0)
    return number.value


def keyring(special: int) -> int | str:
    # KEYCTL_GET_KEYRING_ID, without making one
    serial: int = libc.syscall(ctypes.c_long(keyctl_number), 0, ctypes.c_int(special), 0)
    return serial if serial >= 0 else f"errno {ctypes.get_errno()}"


def session_keyring() -> int | str:
    session = keyring(-3)  # KEY_SPEC_SESSION_KEYRING
    # who has none is given that of his user: KEY_SPEC_USER_SESSION_KEYRING
    return "the user's" if isinstance(session, int) and session == keyring(-5) else session


def interfaces() -> dict[str, bool]:
    found = {}
    with socket.socket() as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("16sh14x", name.encode(), 0)
            answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)
            found[name] = bool(struct.unpack("16sh14x", answer)[1] & IFF_UP)
    return found


def descriptors() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing
            found[fd] = os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]
    return found


def listing(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return [type(error).__name__]


def limits() -> dict[str, tuple[int, int]]:
    words = {"nofile": 7, "nproc": 6, "core": 4, "sigpending": 11, "msgqueue": 12}
    words |= {"cpu": 0, "fsize": 1, "data": 2, "stack": 3, "rss": 5, "memlock": 8, "as": 9}
    words |= {"locks": 10, "nice": 13, "rtprio": 14, "rttime": 15}
    return {word: resource.getrlimit(number) for word, number in words.items()}


lines = read("/proc/self/status").splitlines()
status: dict[str, str] = dict(line.split(":\t", 1) for line in lines)
_, _, after_name = read("/proc/self/stat").rpartition(") ")
stat = after_name.split()
print(
    json.dumps(
        {
            "namespaces": {
                kind: os.readlink(f"/proc/self/ns/{kind}")
                for kind in ("mnt", "uts", "ipc", "pid", "net", "user", "cgroup", "time")
            },
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "pids": [name for name in listing("/proc") if name.isdigit()],
            "group": os.getpgrp(),
            "session": os.getsid(0),
            "terminal": stat[4],
            "uids": os.getresuid(),
            "gids": os.getresgid(),
            "groups": sorted(os.getgroups()),
            "uid_map": [line.split() for line in read("/proc/self/uid_map").splitlines()],
            "gid_map": [line.split() for line in read("/proc/self/gid_map").splitlines()],
            "setgroups": read("/proc/self/setgroups").strip(),
            "capabilities": {
                name: int(status[name], 16)
                for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
            },
            "securebits": prctl(PR_GET_SECUREBITS),
            "no_new_privileges": status["NoNewPrivs"],
            "seccomp": [status["Seccomp"], status["Seccomp_filters"]],
            "dumpable": prctl(PR_GET_DUMPABLE),
            "death_signal": prctl_to_address(PR_GET_PDEATHSIG),
            "subreaper": prctl_to_address(PR_GET_CHILD_SUBREAPER),
            "thp_disable": prctl(PR_GET_THP_DISABLE),
            "timer_slack": prctl(PR_GET_TIMERSLACK),
            "personality": read("/proc/self/personality").strip(),
            "mounts": [line.split() for line in read("/proc/self/mountinfo").splitlines()],
            "root": listing("/"),
            "dev": listing("/dev"),
            "hostname": os.uname().nodename,
            "domainname": read("/proc/sys/kernel/domainname").strip(),
            "interfaces": interfaces(),
            "fds": descriptors(),
            "session_keyring": session_keyring(),
            "user_session_keyring": keyring(-5),
            "key_file": len(read("/proc/keys")) > 0,
            "environment": sorted(read("/proc/self/environ").split("\0")[:-1]),
            "cgroups": sorted(read("/proc/self/cgroup").splitlines()),
            "rlimits": limits(),
            "umask": status["Umask"],
            "cwd": os.getcwd(),
            "oom_score_adj": read("/proc/self/oom_score_adj").strip(),
            "nice": os.getpriority(os.PRIO_PROCESS, 0),
            "policy": os.sched_getscheduler(0),
            "affinity": sorted(os.sched_getaffinity(0)),
            "coredump_filter": read("/proc/self/coredump_filter").strip(),
            "user_limits": {
                name: read(f"/proc/sys/user/{name}").strip()
                for name in ("max_user_namespaces", "max_inotify_instances")
            },
        }
    )
)
