"""The article's container, right: a memory hog as PID 1 of its own namespaces, under 100 MB.

Run it as root. It takes stress(1) for the hog if that is installed, else a few lines of Python.
docs/article.md tells what was wrong with the article's own program.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pyns import CgroupError, Container, Limits, Namespace, SpawnError, clone_into

# What runs inside. It says where it is, and becomes the hog without changing its pid.
INSIDE = """
import os, shutil, sys
print("inside:  I am PID", os.getpid(), "on", os.uname().nodename)
print("inside:  /proc shows the processes", sorted(filter(str.isdigit, os.listdir("/proc"))))
for line in open("/proc/self/cgroup"):
    _, controllers, path = line.rstrip().split(":", 2)
    if line not in sys.argv[1]:
        print("inside: ", controllers or "v2", "cgroup", path)
hog = ["stress", "--vm-bytes", "200m", "--vm-keep", "-m", "1", "--timeout", "10s"]
print("inside:  now I take 200 MB", "with stress" if shutil.which("stress") else "", flush=True)
if shutil.which("stress"):
    os.execvp(hog[0], hog)
memory = bytearray(200 << 20)  # zeroed: every page is touched
print("inside:  I got them: the limit did not hold")
"""


def main() -> None:
    """Start the container, wait for it and look at what is left."""
    box = Container(
        namespaces=Namespace.UTS | Namespace.PID | Namespace.MOUNT,
        hostname="container",
        limits=Limits(memory_max="100M", memory_swap_max=0),
    )
    outside = Path("/proc/self/cgroup").read_text()
    with clone_into(box, [sys.executable, "-c", INSIDE, outside]) as process:
        group = process.cgroup
        assert group is not None
        paths = group.paths
        print(f"outside: it is PID {process.pid} on {os.uname().nodename}", flush=True)
    usage = process.usage
    assert usage is not None
    assert usage.memory_peak is not None
    print(f"outside: it ended with status {process.returncode}")
    print(f"outside: memory peak {usage.memory_peak / 2**20:.1f} MiB of 100 MiB allowed")
    print(f"outside: the OOM killer took {usage.oom_kills} process(es) of it")
    left = [path for path in paths if os.path.exists(path)]
    print(f"outside: cgroups left behind: {left or 'none'}")


if __name__ == "__main__":
    try:
        main()
    except (CgroupError, SpawnError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")
