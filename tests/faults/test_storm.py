"""32 threads spawn, a timer goes off every millisecond, another thread forks: all goes well.

2000 programs; with PYNS_WHOLE=1 in the environment, 10 000.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest

COUNT = 10_000 if "PYNS_WHOLE" in os.environ else 2000
TIMEOUT = 1800 if COUNT == 10_000 else 120

STORM = """
import faulthandler, json, os, random, resource, signal, sys, threading, warnings
from contextlib import suppress
from pathlib import Path

from pyns import Container, IdMap, Limits, Namespace, run
from pyns.cgroups import placing

count, seed, timeout, with_limits = json.loads(sys.argv[1])
faulthandler.dump_traceback_later(timeout, exit=True)
warnings.simplefilter("ignore", DeprecationWarning)  # of fork, beside threads: it is the point
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
maps = [IdMap(0, 100000, 5)] if os.geteuid() == 0 else None
USER = {"namespaces": Namespace.USER | Namespace.UTS, "uid_map": maps, "gid_map": maps}
BOXES = [
    Container(namespaces=Namespace(0)),
    Container(namespaces=Namespace.PID | Namespace.MOUNT, init=True),
    Container(hostname="storm", die_with_parent=True),
    Container(**USER),  # with a thread that helps, and a change of user
]
if with_limits:
    BOXES.append(Container(namespaces=Namespace(0), limits=Limits(pids_max=20)))
signals, forks, failures = 0, 0, []
lock, numbers, over = threading.Lock(), iter(range(count)), threading.Event()


def handle(*_):
    global signals
    signals += 1


def spawn_many(thread):
    choice = random.Random(f"{seed} {thread}")
    while True:
        with lock:
            number = next(numbers, None)
        if number is None or failures:
            return
        status, box = choice.randrange(256), choice.choice(BOXES)
        # a PID 1 can't kill itself
        killed = status % 16 == 0 and (box.init or Namespace.PID not in box.namespaces)
        end = "kill -9 $$" if killed else f"exit {status}"
        try:
            done = run(box, ["sh", "-c", f"echo {number}; {end}"], capture_output=True, timeout=60)
            got = done.returncode, done.stdout, done.stderr
            wanted = -signal.SIGKILL if killed else status
            if got != (wanted, b"%d\\n" % number, b""):
                failures.append(f"{number}, {box}: {got}, not {wanted}")
        except BaseException as failure:
            failures.append(f"{number}, {box}: {failure!r}")


def fork_many():
    global forks
    while not over.is_set():
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 7:
            failures.append(f"fork {forks}")
        forks += 1


def found():
    children = []
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):
            children += Path(f"/proc/self/task/{task}/children").read_text().split()
    fds = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    tops = ["/".join((base, *above)) for base, above in placing.default_bases().values()]
    own = f"{os.getpid()}-"
    groups = [p for top in tops for p, _, _ in os.walk(top) if os.path.basename(p).startswith(own)]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return children, len(fds), groups, threading.active_count(), len(mask)


run(BOXES[0], ["true"])
before = found()
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
threads = [threading.Thread(target=spawn_many, args=(n,)) for n in range(32)]
forker = threading.Thread(target=fork_many)
for thread in [*threads, forker]:
    thread.start()
for thread in threads:
    thread.join()
over.set()
forker.join()
signal.setitimer(signal.ITIMER_REAL, 0)
after = found()
if after != before:
    failures.append(f"{before} became {after}")
print(json.dumps([failures[:5], signals, forks]))
"""


@pytest.mark.timeout(TIMEOUT + 30)
@pytest.mark.usefixtures("namespaces")
def test_no_hang_no_leak_and_no_wrong_status(has_limits: bool) -> None:
    seed = random.randrange(2**32)
    arguments = json.dumps([COUNT, seed, TIMEOUT, has_limits])
    done = subprocess.run(
        [sys.executable, "-P", "-c", STORM, arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT + 20,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"seed {seed}"
    failures, signals, forks = json.loads(done.stdout)
    assert failures == [], f"seed {seed}"
    # otherwise it was no storm
    assert signals > COUNT // 10
    assert forks > COUNT // 100
