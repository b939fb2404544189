"""The caller is killed at any moment: nothing survives it, and no cgroup the next sweep.

30 moments; with PYNS_WHOLE=1 in the environment, 200.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest

COUNT = 200 if "PYNS_WHOLE" in os.environ else 30
TIMEOUT = 600

# Orphans become children of this process, so that it sees who survives.
SURVIVED = """
import ctypes, json, os, random, signal, sys, time
from contextlib import suppress
from pathlib import Path

from pyns import Container, IdMap, Limits, Namespace, clone_into
from pyns.cgroups import placing, sweep

count, seed, with_limits, dies = json.loads(sys.argv[1])
choice = random.Random(seed)
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
maps = [IdMap(0, 100000, 5)] if os.geteuid() == 0 else None
limits = Limits(pids_max=50, memory_max="50M") if with_limits else None
BOXES = [
    Container(die_with_parent=dies, limits=limits),
    Container(die_with_parent=dies, limits=limits, init=True),
    Container(die_with_parent=dies, namespaces=~Namespace.TIME, uid_map=maps, gid_map=maps),
]
# those that may survive end by themselves
SCRIPT = "sleep 1000 & exec sleep 1000" if dies else "sleep 0.2 & exec sleep 0.2"


def call(seed):
    choice = random.Random(seed)
    while True:
        with clone_into(choice.choice(BOXES), ["sh", "-c", SCRIPT]) as process:
            time.sleep(choice.random() / 200)
            process.kill()


def reap(deadline):
    # returns who is there still
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if not pids or time.monotonic() > deadline:
            return [(pid, Path(f"/proc/{pid}/cmdline").read_text()) for pid in pids]
        time.sleep(0.001)


def groups(callers):
    tops = ["/".join((base, *above)) for base, above in placing.default_bases().values()]
    names = tuple(f"{pid}-" for pid in callers)
    paths = [path for top in tops for path, _, _ in os.walk(top)]
    return [path for path in paths if os.path.basename(path).startswith(names)]


clone_into(BOXES[0], ["true"]).wait()
callers, survivors, before = [], [], 0
for n in range(count):
    pid = os.fork()
    if pid == 0:
        call(f"{seed} {n}")
    callers.append(pid)
    time.sleep(choice.random() / 20)
    os.kill(pid, signal.SIGKILL)
    survivors += reap(time.monotonic() + 30)
    before += len(groups([pid]))
    sweep()
print(json.dumps([survivors, groups(callers), before]))
"""


@pytest.mark.timeout(TIMEOUT + 30)
@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("dies", [True, False], ids=["die_with_parent", "not"])
def test_nothing_survives(dies: bool, has_limits: bool) -> None:
    seed = random.randrange(2**32)
    done = subprocess.run(
        [sys.executable, "-P", "-c", SURVIVED, json.dumps([COUNT, seed, has_limits, dies])],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"seed {seed}"
    survivors, groups, before = json.loads(done.stdout)
    assert (survivors, groups) == ([], []), f"seed {seed}"
    assert before > 0 or not has_limits  # something was left to sweep
