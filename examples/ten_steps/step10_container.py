"""Step 10: all of it together, no privileges, an init; and a second program in there."""

import os

from pyns import Container, Limits, clone_into, run

LOOK = """
    echo I am uid $(id -u) on $(uname -n)
    for file in /proc/[0-9]*/comm; do echo $file: $(cat $file); done
    grep -e NoNewPrivs -e CapBnd -e Seccomp: /proc/2/status
"""

box = Container.sandbox(
    hostname="container", limits=Limits(memory_max="100M", pids_max=32, cpu_max=0.5)
)
with clone_into(box, ["sleep", "60"]) as process:
    groups = process.cgroup.paths if process.cgroup else ()
    print(run(process, ["sh", "-c", LOOK], capture_output=True, text=True).stdout, end="")
    process.terminate()
print("it ended with", process.returncode)
print("groups left behind:", sum(map(os.path.exists, groups)))
