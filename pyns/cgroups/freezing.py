"""How a group is frozen and thawed."""

from __future__ import annotations

import errno
import os
import select
import time

from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import Hierarchy
from pyns.errors import CgroupError


def freeze(hierarchy: Hierarchy, directory: Directory, timeout: float) -> None:
    """Freeze a group and wait until all in it has stopped."""
    deadline = time.monotonic() + timeout
    if hierarchy.version == 2:
        directory.write("cgroup.freeze", "1")
        stopped = wait_for_event(directory, b"frozen 1", deadline)
    else:
        directory.write("freezer.state", "FROZEN", "freezer")
        # v1 has no event for it; reading makes the kernel look
        while not (stopped := directory.read("freezer.state").strip() == "FROZEN"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)
    if not stopped:
        raise CgroupError(
            errno.ETIMEDOUT,
            f"freeze the cgroup {directory.path}",
            file=directory.path,
            hint="A process in uninterruptible sleep stops when that ends; thaw() takes it back",
        )


def thaw(hierarchy: Hierarchy, directory: Directory) -> None:
    """Thaw a group."""
    if hierarchy.version == 2:
        directory.write("cgroup.freeze", "0")
    else:
        directory.write("freezer.state", "THAWED", "freezer")


def wait_for_event(directory: Directory, line: bytes, deadline: float | None) -> bool:
    """Wait until a v2 group's cgroup.events has a line; False when it has not by the deadline."""
    fd = directory.open("cgroup.events", os.O_RDONLY)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)  # the kernel reports each change of the file so
        while line not in os.pread(fd, 4096, 0):
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            if not poll.poll(left):
                return False
        return True
    except OSError as error:
        path = f"{directory.path}/cgroup.events"
        raise CgroupError(error.errno or 0, f"read {path}", file=path) from None
    finally:
        os.close(fd)
