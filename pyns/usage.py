"""What a program has used, once it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyns.cgroups import Stats


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a program has used, once it has ended; None where the kernel does not tell.

    Whose figures they are:

    - `limits` (with or without `cgroup`): those of the group that was made for it, from its
      first instruction until its end was noticed. Whatever ran in the group is included, whether
      it was waited for or not.
    - `cgroup` alone: what the whole group has used between the start of the program and the
      notice of its end: the differences of two readings. Whoever else is in the group during that
      time is included, so that of several runs at once each has the use of all.
    - neither, or a group that is removed by then: those of the process and the children that it
      waited for; no more than the CPU time and wall_seconds.

    Attributes:
        wall_seconds: from before the clone until its end was noticed.
        cpu_seconds: CPU time.
        user_seconds: of it, in user mode.
        system_seconds: of it, in the kernel.
        memory_peak: bytes, the highest that the group was charged with, page cache and kernel
            memory included. `cgroup` alone: during the run, and including what the group was
            charged with before, such as files that an earlier run has read. It is known if
            no process and no other run was in the group at the start (on v2 since Linux 6.12), or
            if it is the highest since the group was made; else None.
        oom_kills: processes that the OOM killer took because of memory_max.
        pids_peak: most processes and threads at a time. `cgroup` alone: known only if it is the
            highest since the group was made, and else None.
    """

    wall_seconds: float
    cpu_seconds: float | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    memory_peak: int | None = None
    oom_kills: int | None = None
    pids_peak: int | None = None


def of_process(wall: float, ending: Any) -> Usage:
    """Return that of a process and the children that it waited for, from its struct ending."""
    if not ending.pid:
        return Usage(wall_seconds=wall)
    # not ru_maxrss: a vfork child's begins with the resident size of its parent
    user, system = ending.user_us / 1e6, ending.system_us / 1e6
    return Usage(
        wall_seconds=wall, cpu_seconds=user + system, user_seconds=user, system_seconds=system
    )


def of_group(wall: float, stats: Stats) -> Usage:
    """Return that of all who were in a group."""
    return Usage(
        wall_seconds=wall,
        cpu_seconds=stats.cpu_seconds,
        user_seconds=stats.user_seconds,
        system_seconds=stats.system_seconds,
        memory_peak=stats.memory_peak,
        oom_kills=stats.oom_kills,
        pids_peak=stats.pids_peak,
    )
