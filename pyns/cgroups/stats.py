"""What a cgroup has used: typed results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What the processes of a cgroup have used since it was made; None where the kernel is silent.

    Attributes:
        cpu_seconds: CPU time.
        user_seconds: of it, in user mode.
        system_seconds: of it, in the kernel.
        memory_current: bytes charged now, page cache and kernel memory included.
        memory_peak: bytes, the highest that was.
        oom_kills: processes that the OOM killer took because of memory_max.
        pids_current: processes and threads now.
        pids_peak: the highest that was.
    """

    cpu_seconds: float | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    memory_current: int | None = None
    memory_peak: int | None = None
    oom_kills: int | None = None
    pids_current: int | None = None
    pids_peak: int | None = None


def flat_keyed(text: str) -> dict[str, int]:
    """Read a file of lines "key value"."""
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}
